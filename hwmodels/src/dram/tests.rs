//! Against DRAMsim3's measurements, and against a walk.

#![expect(clippy::unwrap_used, reason = "tests")]

use presil_numerics::{Bytes, Seconds};

use super::reference::{ChannelRow, EfficiencyRow};
use super::{AddressOrder, Channel, Demand, Streams, in_flight};

fn rows<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.deserialize().map(Result::unwrap).collect()
}

fn channel(ini: &str, mapping: &str) -> Channel {
    let rows: Vec<ChannelRow> = rows(include_str!("../../../tests/data/dram/channels.csv"));
    let row = rows.iter().find(|r| r.ini == ini && r.mapping == mapping);
    row.unwrap().channel().unwrap()
}

#[test]
fn dramsim3() {
    let rows: Vec<EfficiencyRow> = rows(include_str!(
        "../../../tests/data/dram/dram_efficiency_dramsim3.csv"
    ));
    let mut judged = 0;
    for row in &rows {
        let ours = channel(&row.ini, &row.mapping).efficiency(row.demand().unwrap());
        let error = ours / row.eff - 1.0;
        println!(
            "{:20} {:18} {:9} {:.4} {ours:.4} {:+.1} %",
            row.ini,
            row.mapping,
            row.pattern,
            row.eff,
            error * 100.0
        );
        if let Some(within) = row.tolerance() {
            judged += 1;
            assert!(error.abs() < within, "{row:?}: {error}");
        }
        // Far inside for reads, where nothing but times of the data sheet is used.
        if row.ini == "HBM2_8Gb_x128" && !row.pattern.contains("mix") {
            assert!(error.abs() < 0.006, "{row:?}: {error}");
        }
    }
    assert_eq!((rows.len(), judged), (60, 17));
}

#[test]
fn orders_are_read_and_written() {
    let order: AddressOrder = "row-rank-column-bank-group".parse().unwrap();
    assert_eq!(order.to_string(), "row-rank-column-bank-group");
    assert!(order.interleaves_groups());
    assert!(
        !"row-rank-bank-group-column"
            .parse::<AddressOrder>()
            .unwrap()
            .interleaves_groups()
    );
    for wrong in [
        "",
        "row",
        "row-rank-bank-bank-column",
        "rank-row-bank-group-column",
        "rochrababgco",
    ] {
        assert!(wrong.parse::<AddressOrder>().is_err(), "{wrong}");
    }
}

/// Every burst of a channel has a place of its own, and rows and banks fill up in the order that is written.
#[test]
fn places_are_all_different() {
    for order in [
        "row-rank-bank-group-column",
        "row-rank-column-bank-group",
        "row-column-group-rank-bank",
    ] {
        let mut c = channel("HBM2_8Gb_x128", "default");
        (c.page, c.ranks, c.order) = (Bytes(256), 2, order.parse().unwrap());
        let banks = c.ranks * c.groups * c.banks;
        let row = banks * c.page_bursts();
        let mut of_bank = vec![0; banks as usize];
        for burst in 0..row {
            let place = c.order.place(&c, burst);
            assert_eq!(place.row, 0);
            assert_eq!((place.rank, place.group), (place.bank / 16, place.bank / 4));
            of_bank[place.bank as usize] += 1;
        }
        assert!(of_bank.iter().all(|n| *n == c.page_bursts()));
        assert_eq!(c.order.place(&c, row).row, 1);
    }
}

/// What a stream can have at best and at worst: each burst right behind the one before, or a group's pace.
#[test]
fn bank_groups_cost_between_nothing_and_their_pace() {
    let mut c = channel("DDR4_8Gb_x8_3200", "default");
    let refresh = 1.0 - c.refresh();
    for reads in [0, 8, 16, 32, 64, 128, 1024] {
        let before = c.efficiency(Demand::Stream);
        c.queues.reads = reads;
        let now = c.efficiency(Demand::Stream);
        assert!(now >= 0.5 * refresh - 1e-12 && now <= refresh + 1e-12);
        if reads > 32 {
            assert!(now >= before);
        }
    }
    assert_eq!(c.efficiency(Demand::Stream), refresh);
}

/// One group of writes costs one turn, whatever else is in the pattern.
#[test]
fn longer_groups_of_writes_cost_less() {
    let mut c = channel("HBM2_8Gb_x128", "ro_bankinterleave");
    let copy = Demand::Streams(Streams {
        reads: 1,
        writes: 1,
        chunk: Bytes(64),
        aligned: false,
    });
    let mut last = 0.0;
    for writes in [1, 8, 32, 128, 4096] {
        c.queues.writes = writes;
        let each = c.timing.burst.0 + c.turn().0 / (2 * writes) as f64;
        let ours = c.efficiency(copy);
        assert!((ours - c.timing.burst.0 / each * (1.0 - c.refresh())).abs() < 1e-12);
        assert!(ours > last);
        last = ours;
    }
}

#[test]
fn requests_in_flight_bound_the_rate() {
    // 16 requests of 64 bytes, answered after 100 ns: 10.24 GB/s.
    let rate = in_flight(16, Bytes(64), Seconds(100e-9));
    assert!((rate.0 - 10.24e9).abs() < 1.0);
    assert_eq!(in_flight(1, Bytes(64), Seconds::ZERO).0, f64::INFINITY);
}
