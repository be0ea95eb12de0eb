#![expect(clippy::panic, reason = "tests")]

use presil_numerics::{Bytes, Format, LanePrimitive};
use proptest::prelude::*;

use super::sram::{Metric, cacti};
use super::*;

fn at(node: f64) -> Technology {
    let node = Nanometres(node);
    Technology {
        node,
        device: DeviceClass::Hp,
        voltage: nominal_voltage(node),
        scaling: Scaling::Jouppi,
    }
}

fn close(value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value / expected - 1.0).abs() <= tolerance,
        "{value} against {expected}"
    );
}

#[test]
fn every_row_reads() {
    let d = data();
    assert_eq!(d.nodes.len(), table::lines(text::NODES));
    assert_eq!(d.constants.len(), table::lines(text::CONSTANTS));
    assert_eq!(d.operations.len(), table::lines(text::OPERATIONS));
    assert_eq!(d.parts.len(), table::lines(text::DRAM));
    assert_eq!(d.primitives.len(), LanePrimitive::ALL.len());
    assert!(
        LanePrimitive::ALL
            .iter()
            .all(|p| at(7.0).lane(*p, Format::INT8).value > 0.0)
    );
    for c in &d.constants {
        assert!(c.low <= c.value && c.value <= c.high, "{}", c.name);
    }
}

/// Rows of the table as text, parsed here by hand: (node, size, width, read, write, leakage, area, access).
fn cacti_rows() -> Vec<(String, [f64; 8])> {
    let lines = text::SRAM_HP
        .lines()
        .skip(1)
        .chain(text::SRAM_LOW.lines().skip(1));
    lines
        .map(|line| {
            let mut fields = line.split(',');
            let device = fields.next().unwrap_or_default().to_string();
            let numbers: Vec<f64> = fields
                .take(8)
                .map(|f| f.parse().unwrap_or(f64::NAN))
                .collect();
            (
                device,
                numbers.try_into().unwrap_or_else(|n| panic!("{n:?}")),
            )
        })
        .collect()
}

#[test]
fn the_sram_table_is_reproduced_at_its_points() {
    let mut seen = 0;
    for (device, [node, size, width, read, write, leakage, area, access]) in cacti_rows() {
        let class = [DeviceClass::Hp, DeviceClass::Lop, DeviceClass::Lstp]
            .into_iter()
            .find(|d| d.name() == device);
        let class = class.unwrap_or_else(|| panic!("{device}"));
        // Low-power classes are used at the widths that every node has.
        if class != DeviceClass::Hp && ![64.0, 256.0].contains(&width) {
            continue;
        }
        seen += 1;
        let metrics = [
            (Metric::Read, read),
            (Metric::Write, write),
            (Metric::Leakage, leakage),
            (Metric::Area, area),
            (Metric::Access, access),
        ];
        for (metric, expected) in metrics {
            close(cacti(class, node, size, width, metric), expected, 1e-9);
        }
    }
    assert!(seen > 600, "{seen}");
}

/// Leave one row out, interpolate it log-log between its neighbours in size: CACTI's own jumps remain.
#[test]
fn interpolation_over_size_is_within_cactis_own_jumps() {
    let rows: Vec<[f64; 8]> = cacti_rows()
        .into_iter()
        .filter(|(d, _)| d == "itrs-hp")
        .map(|(_, r)| r)
        .collect();
    let mut errors: Vec<f64> = Vec::new();
    for row in &rows {
        let series = || {
            rows.iter()
                .filter(|r| r[0] == row[0] && r[2] == row[2] && r[1] != row[1])
        };
        let inside = series().any(|r| r[1] < row[1]) && series().any(|r| r[1] > row[1]);
        if inside {
            let mut points: Vec<(f64, f64)> = series().map(|r| (r[1], r[3])).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            errors.push((log_log(&points, row[1], ANY) / row[3] - 1.0).abs());
        }
    }
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!(
        errors.len() > 400 && mean < 0.07,
        "mean error {mean} over {} rows",
        errors.len()
    );
}

#[test]
fn anchors_below_22_nm_are_reproduced() {
    let t = at(7.0);
    let read = |size: f64| t.bank(size, 64.0, Metric::Read, Scaling::Jouppi);
    close(read(8192.0), 7.5, 1e-9);
    close(read(32768.0), 8.5, 1e-9);
    close(read(1_048_576.0), 14.0, 1e-9);
    // The banked model with wires does not know the 1 MB anchor, and meets it.
    let banked = t.sram(Bytes(1 << 20), Bytes(8), None).read;
    close(banked.value, 14e-12, 0.3);
    // Published model of a 7 nm chip: 0.249 pJ/bit for 4 MB (wide words), 112 mm2 for 128 MB.
    let large = t.sram(Bytes(4 << 20), Bytes(64), None).read;
    close(large.value / 512.0, 0.249e-12, 0.4);
    let cmem = t.sram(Bytes(128 << 20), Bytes(512), None).area;
    assert!(cmem.low < 112.0 && 112.0 < cmem.high, "{cmem:?}");
}

#[test]
fn nodes_join_without_a_jump() {
    for metric in [Metric::Read, Metric::Write, Metric::Leakage, Metric::Area] {
        let (above, below) = (at(22.001), at(21.999));
        let bank = |t: Technology| t.bank(32768.0, 128.0, metric, Scaling::Jouppi);
        close(bank(above), bank(below), 1e-2);
    }
    for format in [Format::INT8, Format::BF16, Format::FP32] {
        for node in [45.0, 7.0] {
            let mac = |n: f64| at(n).mac(format, format, Format::FP32).value;
            close(mac(node * 1.0001), mac(node * 0.9999), 1e-2);
        }
    }
}

#[test]
fn arithmetic_anchors_are_reproduced() {
    let pj = 1e-12;
    let (coarse, fine) = (at(45.0), at(7.0));
    close(
        coarse.multiply(Format::INT8, Format::INT8).value,
        0.2 * pj,
        1e-9,
    );
    close(
        coarse.multiply(Format::FP16, Format::FP16).value,
        1.1 * pj,
        1e-9,
    );
    close(coarse.add(Format::INT32).value, 0.1 * pj, 1e-9);
    close(
        fine.multiply(Format::FP32, Format::FP32).value,
        1.31 * pj,
        1e-9,
    );
    close(
        fine.multiply(Format::BF16, Format::BF16).value,
        0.21 * pj,
        1e-9,
    );
    close(fine.add(Format::FP16).value, 0.16 * pj, 1e-9);
    // A published model of a 7 nm chip has 0.084 pJ for an int8 MAC.
    let mac = fine.mac(Format::INT8, Format::INT8, Format::INT32);
    assert!(mac.low < 0.084 * pj && 0.084 * pj < mac.high, "{mac:?}");
    // Smaller formats cost less, and the range holds the value.
    let cost = |f: Format| fine.multiply(f, f).value;
    let int4 = Format::Int {
        bits: 4,
        signed: true,
    };
    assert!(
        cost(int4) < cost(Format::INT8)
            && cost(Format::FP8_E4M3FN) < cost(Format::BF16)
            && cost(Format::BF16) < cost(Format::FP32)
    );
    assert!(mac.low <= mac.value && mac.value <= mac.high);
}

/// Stillmaker and Baas: energies relative to 45 nm at 0.8 V, evaluated by hand from the published polynomials.
#[test]
fn the_scaling_polynomials_are_the_published_ones() {
    let ratio = |node: f64, expected: f64| {
        let t = |n: f64| Technology {
            voltage: Volts(0.8),
            scaling: Scaling::Stillmaker,
            ..at(n)
        };
        // Both at 0.8 V: the overdrive against each node's nominal voltage differs, the polynomial does not.
        close(t(node).stillmaker() / t(45.0).stillmaker(), expected, 2e-2);
    };
    ratio(65.0, 1.2407);
    ratio(32.0, 0.6593);
    ratio(16.0, 0.1735);
    ratio(7.0, 0.0943);
}

#[test]
fn device_classes_differ_in_leakage_above_all() {
    let leak = |device: DeviceClass| cacti(device, 45.0, 32768.0, 64.0, Metric::Leakage);
    let ratio = leak(DeviceClass::Hp) / leak(DeviceClass::Lstp);
    assert!((4000.0..7000.0).contains(&ratio), "{ratio}");
    assert!(
        leak(DeviceClass::Lstp) < leak(DeviceClass::Lop)
            && leak(DeviceClass::Lop) < leak(DeviceClass::Hp)
    );
}

#[test]
fn energy_goes_with_the_voltage_squared() {
    let low = Technology {
        voltage: Volts(nominal_voltage(Nanometres(7.0)).0 * 0.8),
        ..at(7.0)
    };
    let ratio = low.mac(Format::INT8, Format::INT8, Format::INT32).value
        / at(7.0).mac(Format::INT8, Format::INT8, Format::INT32).value;
    close(ratio, 0.64, 1e-9);
    let sram = |t: &Technology| t.sram(Bytes(1 << 20), Bytes(32), None).read.value;
    close(sram(&low) / sram(&at(7.0)), 0.64, 1e-9);
}

#[test]
fn dram_parts_are_sane() {
    for name in dram::part_names() {
        let part = dram::part(name).unwrap_or_else(|| panic!("{name}"));
        let energy = part.energy();
        assert!(
            energy.low <= energy.value && energy.value <= energy.high && energy.value < 50e-12,
            "{name}"
        );
        assert!((0.5..=1.0).contains(&part.streaming_efficiency), "{name}");
    }
    let lpddr5 = dram::part("LPDDR5-6400").unwrap_or_else(|| panic!("no LPDDR5"));
    close(lpddr5.peak_gb_s, 16.0 / 8.0 * 6.4, 1e-9);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Anywhere in the domain figures are positive and finite, and ranges hold their values.
    #[test]
    fn figures_are_positive_and_ordered(
        node in 2.0f64..130.0, log_size in 0.0f64..32.0, log_word in 0u32..12, hp in 0usize..3, jouppi: bool,
    ) {
        let device = [DeviceClass::Hp, DeviceClass::Lop, DeviceClass::Lstp][hp];
        let scaling = if jouppi { Scaling::Jouppi } else { Scaling::Stillmaker };
        let t = Technology { device, scaling, ..at(node) };
        let word = 1u64 << log_word;
        let capacity = (log_size.exp2() as u64).max(word);
        for f in [t.sram(Bytes(capacity), Bytes(word), None), t.registers(Bytes(capacity), Bytes(word))] {
            for e in [&f.read, &f.write, &f.area, &f.leakage] {
                prop_assert!(e.value.is_finite() && e.value > 0.0, "{e:?}");
                prop_assert!(e.low <= e.value * 1.000_001 && e.value <= e.high * 1.000_001, "{e:?}");
            }
        }
    }

    /// A memory four times as large never costs less to read, to hold or to make.
    #[test]
    fn larger_memories_cost_more(node in 2.0f64..90.0, log_size in 10.0f64..27.0, wide: bool) {
        let word = if wide { Bytes(32) } else { Bytes(8) };
        let t = at(node);
        let small = t.sram(Bytes(log_size.exp2() as u64), word, None);
        let large = t.sram(Bytes((log_size + 2.0).exp2() as u64), word, None);
        prop_assert!(large.read.value > small.read.value * 0.98, "{small:?} {large:?}");
        prop_assert!(large.area.value > small.area.value * 1.5);
        prop_assert!(large.leakage.value > small.leakage.value * 1.5);
    }
}
