//! Against DRAMsim3's measurements, and against a walk.

#![expect(clippy::unwrap_used, reason = "tests")]

use presil_numerics::{Bytes, Seconds};

use super::{AddressOrder, Channel, Demand, Queues, Streams, Timing, in_flight};

fn table(text: &str) -> Vec<std::collections::HashMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.deserialize().map(Result::unwrap).collect()
}

fn channel(ini: &str, mapping: &str) -> Channel {
    let rows = table(include_str!("../../../tests/data/dram/channels.csv"));
    let row = rows.iter().find(|r| r["ini"] == ini && r["mapping"] == mapping);
    let row = row.unwrap();
    let n = |field: &str| -> u64 { row[field].parse().unwrap() };
    let tck: f64 = row["tck_ns"].parse().unwrap();
    let t = |field: &str| Seconds(row[field].parse::<f64>().unwrap() * tck * 1e-9);
    Channel {
        burst: Bytes(n("burst_bytes")),
        page: Bytes(n("page_bytes")),
        groups: n("groups"),
        banks: n("banks"),
        ranks: n("ranks"),
        timing: Timing {
            burst: t("burst"),
            rcd: t("rcd"),
            rp: t("rp"),
            rc: t("rc"),
            activate: t("activate"),
            cl: t("cl"),
            cwl: t("cwl"),
            ccd_l: t("ccd_l"),
            wtr: t("wtr"),
            wr: t("wr"),
            rtp: t("rtp"),
            rtrs: t("rtrs"),
            rfc: t("rfc"),
            refi: t("refi"),
        },
        order: row["order"].parse().unwrap(),
        queues: Queues {
            reads: n("reads"),
            writes: n("writes"),
            bank: n("bank"),
        },
    }
}

fn demand(pattern: &str) -> Demand {
    let bytes = |text: &str| Bytes(text.parse().unwrap());
    match pattern.split_once('_').unwrap() {
        ("seq", _) => Demand::Stream,
        ("rand", "rd") => Demand::Random { written: 0.0 },
        ("rand", "mix") => Demand::Random { written: 1.0 / 3.0 },
        ("tile", length) => Demand::Runs {
            length: bytes(length),
            pitch: Bytes(8192),
        },
        (_, chunk) => Demand::Streams(Streams {
            reads: 2,
            writes: 1,
            chunk: bytes(chunk),
            aligned: true,
        }),
    }
}

#[test]
fn dramsim3() {
    let rows = table(include_str!(
        "../../../tests/data/dram/dram_efficiency_dramsim3.csv"
    ));
    let mut judged = 0;
    for row in &rows {
        let (ini, mapping, pattern) = (&*row["ini"], &*row["mapping"], &*row["pattern"]);
        let measured: f64 = row["eff"].parse().unwrap();
        let ours = channel(ini, mapping).efficiency(demand(pattern));
        let error = ours / measured - 1.0;
        let mixed = pattern.contains("mix");
        let within = match (ini, mixed) {
            ("HBM2_8Gb_x128", false) => Some(0.015),
            ("HBM2_8Gb_x128", true) => Some(0.07),
            ("DDR4_8Gb_x8_3200", false) if pattern == "seq_rd" => Some(0.05),
            _ => None,
        };
        println!("{ini:20} {mapping:18} {pattern:9} {measured:.4} {ours:.4} {:+.1} %", error * 100.0);
        if let Some(within) = within {
            judged += 1;
            assert!(error.abs() < within, "{ini} {mapping} {pattern}: {error}");
        }
    }
    assert_eq!((rows.len(), judged), (60, 17));
}
