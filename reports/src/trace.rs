//! A phase over time as a Perfetto trace, to be opened in ui.perfetto.dev or with trace_processor.
//!
//! One process is the chip. Its threads are the ops (which one is waited for) and then each engine and mover of
//! tiles; its counters are the busy share of each shared port, what resident memories hold, and the power. One nanosecond of the trace is one of the pass; what is shorter has no slice of its own.
//!
//! Messages and field numbers are those of `protos/perfetto/trace` of the Perfetto project (Apache-2.0): `Trace`,
//! `TracePacket`, `TrackDescriptor`, `ProcessDescriptor`, `ThreadDescriptor`, `CounterDescriptor`, `TrackEvent`,
//! `DebugAnnotation`.

use presil_sim::Run;
use presil_sim::run::{MemoryUse, Phase, Timeline, TimelineSlice};
use prost::Message;

use crate::figures;

#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<Packet>,
}

#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "11")]
    track_event: Option<Event>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<Track>,
}

#[derive(Clone, PartialEq, Message)]
struct Track {
    #[prost(uint64, optional, tag = "1")]
    uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(message, optional, tag = "3")]
    process: Option<Process>,
    #[prost(message, optional, tag = "4")]
    thread: Option<Thread>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
    #[prost(message, optional, tag = "8")]
    counter: Option<Counter>,
}

#[derive(Clone, PartialEq, Message)]
struct Process {
    #[prost(int32, optional, tag = "1")]
    pid: Option<i32>,
    #[prost(string, optional, tag = "6")]
    process_name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Thread {
    #[prost(int32, optional, tag = "1")]
    pid: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    tid: Option<i32>,
    #[prost(string, optional, tag = "5")]
    thread_name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(string, optional, tag = "6")]
    unit_name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(message, repeated, tag = "4")]
    debug_annotations: Vec<Note>,
    /// 1: a slice begins, 2: it ends, 4: a counter's value.
    #[prost(int32, optional, tag = "9")]
    kind: Option<i32>,
    #[prost(uint64, optional, tag = "11")]
    track_uuid: Option<u64>,
    #[prost(string, optional, tag = "23")]
    name: Option<String>,
    #[prost(double, optional, tag = "44")]
    double_counter_value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Note {
    #[prost(uint64, optional, tag = "3")]
    uint_value: Option<u64>,
    #[prost(string, optional, tag = "6")]
    string_value: Option<String>,
    #[prost(string, optional, tag = "10")]
    name: Option<String>,
}

const BEGIN: i32 = 1;
const END: i32 = 2;
const VALUE: i32 = 4;
const PROCESS: u64 = 1;

/// The trace of a phase, as the bytes of a `.pftrace` file; none of a phase that was not simulated.
pub fn perfetto(run: &Run, phase: &Phase) -> Option<Vec<u8>> {
    let timeline = phase.timeline.as_ref()?;
    let mut writer = Writer {
        packets: Vec::new(),
        tracks: PROCESS,
    };
    writer.describe(Track {
        uuid: Some(PROCESS),
        process: Some(Process {
            pid: Some(1),
            process_name: Some(format!("{} on {}: {}", run.model, run.chip, phase.name)),
        }),
        ..Track::default()
    });
    writer.thread("ops", phase, &timeline.ops);
    for track in &timeline.tracks {
        writer.thread(&track.name, phase, &track.slices);
    }
    for (port, shares) in &timeline.ports {
        let points = steps(timeline.end_s(), shares, 100.0);
        writer.counter(&format!("{port}, busy"), "%", &points);
    }
    for memory in &phase.memory_plan.memories {
        let points = held(phase, timeline, memory);
        writer.counter(&format!("held in {}", memory.memory), "bytes", &points);
    }
    writer.counter("power", "W", &power(phase, timeline));
    writer.packets.sort_by_key(|p| p.timestamp);
    Some(
        Trace {
            packet: writer.packets,
        }
        .encode_to_vec(),
    )
}

/// Values over equal parts of the time, as changes.
fn steps(end: f64, values: &[f64], scale: f64) -> Vec<(f64, f64)> {
    let width = end / values.len().max(1) as f64;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (i, v) in values.iter().enumerate() {
        let value = v * scale;
        if points.last().is_none_or(|p| p.1 != value) {
            points.push((i as f64 * width, value));
        }
    }
    points.push((end, 0.0));
    points
}

/// Bytes that the plan has in a memory while each op runs.
fn held(phase: &Phase, timeline: &Timeline, memory: &MemoryUse) -> Vec<(f64, f64)> {
    let place = |name: &str| phase.ops.iter().position(|o| o.name == name);
    let mut bytes = vec![0.0; phase.ops.len()];
    for region in &memory.regions {
        for (first, last) in &region.held {
            let (Some(first), Some(last)) = (place(first), place(last)) else {
                continue;
            };
            for b in bytes.iter_mut().take(last + 1).skip(first) {
                *b += region.size_bytes as f64;
            }
        }
    }
    let of = |s: &TimelineSlice| s.op.and_then(|o| bytes.get(o)).map(|b| (s.start_s, *b));
    let mut points: Vec<(f64, f64)> = timeline.ops.iter().filter_map(of).collect();
    points.dedup_by_key(|p| p.1);
    points
}

/// Power while each op runs.
fn power(phase: &Phase, timeline: &Timeline) -> Vec<(f64, f64)> {
    let of = |s: &TimelineSlice| {
        let op = phase.ops.get(s.op?)?;
        Some((s.start_s, figures::op_power(phase, op)?))
    };
    let mut points: Vec<(f64, f64)> = timeline.ops.iter().filter_map(of).collect();
    points.push((timeline.end_s(), 0.0));
    points
}

struct Writer {
    packets: Vec<Packet>,
    /// Ids of tracks that were given.
    tracks: u64,
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round().max(0.0) as u64
}

impl Writer {
    fn describe(&mut self, track: Track) {
        self.packets.push(Packet {
            trusted_packet_sequence_id: Some(1),
            track_descriptor: Some(track),
            ..Packet::default()
        });
    }

    fn event(&mut self, at: u64, event: Event) {
        self.packets.push(Packet {
            timestamp: Some(at),
            trusted_packet_sequence_id: Some(1),
            track_event: Some(event),
            ..Packet::default()
        });
    }

    fn thread(&mut self, name: &str, phase: &Phase, slices: &[TimelineSlice]) {
        self.tracks += 1;
        let uuid = self.tracks;
        let tid = i32::try_from(uuid).unwrap_or(i32::MAX);
        self.describe(Track {
            uuid: Some(uuid),
            parent_uuid: Some(PROCESS),
            thread: Some(Thread {
                pid: Some(1),
                tid: Some(tid),
                thread_name: Some(name.into()),
            }),
            ..Track::default()
        });
        for slice in slices {
            let (start, end) = (nanoseconds(slice.start_s), nanoseconds(slice.end_s));
            if start == end {
                continue;
            }
            let op = slice.op.and_then(|o| phase.ops.get(o));
            let name = op.map_or_else(
                || format!("{} times the ops before", slice.tiles),
                |o| o.name.clone(),
            );
            self.event(
                start,
                Event {
                    debug_annotations: notes(op, slice),
                    kind: Some(BEGIN),
                    track_uuid: Some(uuid),
                    name: Some(name),
                    ..Event::default()
                },
            );
            self.event(
                end,
                Event {
                    kind: Some(END),
                    track_uuid: Some(uuid),
                    ..Event::default()
                },
            );
        }
    }

    fn counter(&mut self, name: &str, unit: &str, points: &[(f64, f64)]) {
        self.tracks += 1;
        let uuid = self.tracks;
        self.describe(Track {
            uuid: Some(uuid),
            name: Some(name.into()),
            parent_uuid: Some(PROCESS),
            counter: Some(Counter {
                unit_name: Some(unit.into()),
            }),
            ..Track::default()
        });
        for (at, value) in points {
            self.event(
                nanoseconds(*at),
                Event {
                    kind: Some(VALUE),
                    track_uuid: Some(uuid),
                    double_counter_value: Some(*value),
                    ..Event::default()
                },
            );
        }
    }
}

fn notes(op: Option<&presil_sim::run::OpRun>, slice: &TimelineSlice) -> Vec<Note> {
    let mut notes = vec![Note {
        name: Some("tiles".into()),
        uint_value: Some(slice.tiles),
        string_value: None,
    }];
    for (name, value) in op
        .iter()
        .flat_map(|o| [("class", &o.class), ("shape", &o.shape)])
    {
        notes.push(Note {
            name: Some(name.into()),
            string_value: Some(value.clone()),
            uint_value: None,
        });
    }
    notes
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::sample;

    #[test]
    fn slices_nest_and_counters_have_values() {
        let run = sample::simulated();
        let bytes = perfetto(&run, &run.phases[0]).unwrap();
        let trace = Trace::decode(bytes.as_slice()).unwrap();
        let mut open: std::collections::BTreeMap<u64, u32> = std::collections::BTreeMap::new();
        let (mut before, mut slices, mut values) = (0, 0, 0);
        let described: Vec<u64> = trace
            .packet
            .iter()
            .filter_map(|p| p.track_descriptor.as_ref()?.uuid)
            .collect();
        for packet in &trace.packet {
            let Some(event) = &packet.track_event else {
                continue;
            };
            let at = packet.timestamp.unwrap();
            assert!(at >= before, "events are in order");
            before = at;
            let track = event.track_uuid.unwrap();
            assert!(described.contains(&track));
            match event.kind.unwrap() {
                BEGIN => {
                    *open.entry(track).or_default() += 1;
                    assert!(!event.name.as_ref().unwrap().is_empty());
                    slices += 1;
                }
                END => *open.get_mut(&track).unwrap() -= 1,
                _ => {
                    assert!(event.double_counter_value.unwrap() >= 0.0);
                    values += 1;
                }
            }
            assert!(
                open.values().all(|n| *n <= 1),
                "slices of a track do not overlap"
            );
        }
        assert!(slices > 3 && values > 3, "{slices} {values}");
        assert!(open.values().all(|n| *n == 0), "each slice ends");
        assert_eq!(perfetto(&sample::cnn(), &sample::cnn().phases[0]), None);
    }
}
