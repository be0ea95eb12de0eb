//! Codes that leave zeros out of stored data, and how many bits they take.
//!
//! The density `d` of a tensor is the share of its elements that are not zero. Zeros are taken as independent of
//! each other; data whose zeros cluster codes a little shorter by run length, and the same by bitmask.
//!
//! **Run length.** A token is a run of zeros (0 to `R = 2^run_bits - 1` of them) and the element behind it, which
//! is itself a zero where the run is longer than `R`. A token stands for more than `k` elements, `k <= R`, if the
//! next `k` are zeros, so that with `z = 1 - d`
//!
//! ```text
//! elements of a token   L = sum over k = 0..=R of z^k = (1 - z^(R + 1)) / d        (R + 1 where d = 0)
//! bits of an element    word_bits / tokens_per_word / L
//! ```
//!
//! The rest of a word that its tokens leave (a flag, say) is part of their bits.
//!
//! **Bitmask.** A bit for each element, and the elements that are not zero: `1 + d x element bits`.
//!
//! All metadata (runs, masks, flags) is counted. A tensor that a code would lengthen is stored as it is.

/// A code that leaves zeros out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Runs of zeros by their length.
    RunLength {
        /// Bits of a run's length.
        run_bits: u32,
        /// Bits of an element in a token. Wider elements are not coded.
        value_bits: u32,
        /// Tokens of a word.
        tokens_per_word: u32,
        /// Bits of a word.
        word_bits: u32,
    },
    /// A bit for each element says whether it is stored.
    Bitmask,
}

impl Coding {
    /// Expected bits that one element of so many bits takes at a density, in 0..=1; at most its own bits.
    pub fn bits(self, element_bits: f64, density: f64) -> f64 {
        let density = if density.is_nan() {
            1.0
        } else {
            density.clamp(0.0, 1.0)
        };
        let coded = match self {
            Self::RunLength { value_bits, .. } if element_bits > f64::from(value_bits) => {
                element_bits
            }
            Self::RunLength {
                run_bits,
                tokens_per_word,
                word_bits,
                ..
            } => {
                let token = f64::from(word_bits) / f64::from(tokens_per_word.max(1));
                token / elements_of_token(run_bits, density)
            }
            Self::Bitmask => 1.0 + density * element_bits,
        };
        coded.min(element_bits)
    }
}

/// Expected elements that a token of run length stands for.
fn elements_of_token(run_bits: u32, density: f64) -> f64 {
    let most = f64::from(run_bits.min(1000)).exp2();
    if density <= 0.0 {
        return most;
    }
    // 1 - z^most without loss of digits where d is small.
    let all_zero = most * (-density).ln_1p();
    -all_zero.exp_m1() / density
}

#[cfg(test)]
mod tests {
    use super::*;

    const EYERISS: Coding = Coding::RunLength {
        run_bits: 5,
        value_bits: 16,
        tokens_per_word: 3,
        word_bits: 64,
    };

    /// xorshift64*: the same numbers on every machine.
    fn random(state: &mut u64) -> f64 {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Tokens of a sequence, coded one by one.
    fn tokens(zeros: impl Iterator<Item = bool>, longest: u32) -> u64 {
        let (mut tokens, mut run) = (0, 0);
        for zero in zeros {
            if zero && run < longest {
                run += 1;
            } else {
                tokens += 1;
                run = 0;
            }
        }
        tokens
    }

    #[test]
    fn run_length_takes_what_coding_random_data_takes() {
        let n = 2_000_000;
        let mut state = 7;
        for run_bits in [1, 3, 5] {
            for density in [0.003, 0.02, 0.115, 0.275, 0.5, 0.7] {
                let zeros: Vec<bool> = (0..n).map(|_| random(&mut state) >= density).collect();
                let counted = tokens(zeros.into_iter(), (1 << run_bits) - 1) as f64 / f64::from(n);
                let expected = 1.0 / elements_of_token(run_bits, density);
                assert!(
                    (counted / expected - 1.0).abs() < 0.01,
                    "{run_bits} bits, density {density}: {counted} for {expected}"
                );
            }
        }
    }

    #[test]
    fn ends_of_the_range_are_exact() {
        // All zeros: a token for 32 of them. None: a token each, longer than the element, so that it is stored as it is.
        assert!((EYERISS.bits(16.0, 0.0) - 64.0 / 3.0 / 32.0).abs() < 1e-12);
        assert_eq!(EYERISS.bits(16.0, 1.0), 16.0);
        assert!((EYERISS.bits(16.0, 0.5) - 64.0 / 3.0 * 0.5).abs() < 1e-6);
        assert_eq!(EYERISS.bits(32.0, 0.1), 32.0);
        assert_eq!(Coding::Bitmask.bits(8.0, 0.25), 3.0);
        assert_eq!(Coding::Bitmask.bits(8.0, 1.0), 8.0);
        assert_eq!(Coding::Bitmask.bits(8.0, f64::NAN), 8.0);
    }

    #[test]
    fn fewer_zeros_never_take_fewer_bits() {
        for coding in [EYERISS, Coding::Bitmask] {
            let bits: Vec<f64> = (0..=1000)
                .map(|d| coding.bits(16.0, f64::from(d) / 1000.0))
                .collect();
            assert!(bits.windows(2).all(|w| w[0] <= w[1] + 1e-12), "{coding:?}");
        }
    }
}
