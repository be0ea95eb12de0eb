//! Matrix products against loops.

use presil_numerics::arithmetic::matmul::{Size, matmul_f32, matmul_i8};
use presil_numerics::random::word;

const SIZES: [[usize; 3]; 6] = [
    [1, 1, 1],
    [7, 33, 300],
    [100, 65, 513],
    [6, 32, 256],
    [3, 5, 0],
    [2, 0, 4],
];

#[test]
fn f32_products_add_in_order() {
    for [m, n, k] in SIZES {
        let number = |seed, i: usize| (word(seed, i as u64) as i32) as f32 / 1e9;
        let a: Vec<f32> = (0..m * k).map(|i| number(1, i)).collect();
        let b: Vec<f32> = (0..k * n).map(|i| number(2, i)).collect();
        let mut c: Vec<f32> = (0..m * n).map(|i| number(3, i)).collect();
        let mut expected = c.clone();
        for (index, sum) in expected.iter_mut().enumerate() {
            for l in 0..k {
                *sum = a[index / n * k + l].mul_add(b[l * n + index % n], *sum);
            }
        }
        matmul_f32(&a, &b, &mut c, Size { m, n, k }).unwrap();
        assert_eq!(c, expected);
    }
}

#[test]
fn products_of_bytes_are_exact() {
    for [m, n, k] in SIZES {
        // The largest magnitudes too: a row of -128 meets a column of -128.
        let byte = |seed, i: usize| word(seed, i as u64) as i8;
        let a: Vec<i8> = (0..m * k)
            .map(|i| if i < k { -128 } else { byte(1, i) })
            .collect();
        let b: Vec<i8> = (0..k * n)
            .map(|i| if i % n == 0 { -128 } else { byte(2, i) })
            .collect();
        let mut c = vec![7; m * n];
        matmul_i8(&a, &b, &mut c, Size { m, n, k }).unwrap();
        for (index, c) in c.iter().enumerate() {
            let products =
                (0..k).map(|l| i32::from(a[index / n * k + l]) * i32::from(b[l * n + index % n]));
            assert_eq!(*c, 7 + products.sum::<i32>());
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let size = Size {
        m: 300,
        n: 40,
        k: 260,
    };
    let number = |seed, i: usize| (word(seed, i as u64) as i32) as f32 / 1e9;
    let a: Vec<f32> = (0..size.m * size.k).map(|i| number(1, i)).collect();
    let b: Vec<f32> = (0..size.k * size.n).map(|i| number(2, i)).collect();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut c = vec![0.0; size.m * size.n];
        pool.install(|| matmul_f32(&a, &b, &mut c, size)).unwrap();
        c
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn lengths_are_checked() {
    let size = Size { m: 2, n: 3, k: 4 };
    assert!(matmul_f32(&[0.0; 8], &[0.0; 11], &mut [0.0; 6], size).is_err());
    assert!(matmul_i8(&[0; 8], &[0; 12], &mut [0; 5], size).is_err());
}
