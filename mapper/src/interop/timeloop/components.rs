//! Memories and compute units of an architecture: their attributes and energies.
//!
//! A memory: word bits (`datawidth`, `word_bits`, `word_width`), words of an access (`block_size`, `n_words`),
//! instances that share an array (`cluster_size`), `width` = their product where one is missing (v3 takes blocks
//! of one word then, v4 clusters of one instance), capacity (`depth` accesses, or `entries` words, or `sizeKB`),
//! bandwidths in words a cycle (`read_bandwidth`, `write_bandwidth`, `shared_bandwidth`), `multiple_buffering`.

use super::TimeloopError;
use super::arch::Part;
use super::ert::{Actions, Energies};
use crate::hierarchy::{ComputeLevel, MemoryLevel, Port, Transfer};

/// The compute units of the last part.
pub(super) fn compute(
    part: &Part<'_>,
    given: Option<&Actions>,
    energies: &Energies,
) -> Result<ComputeLevel, TimeloopError> {
    let energy = match given.and_then(|a| a.first(&["compute", "mac_random", "mac"])) {
        Some(energy) => energy,
        None => stated_energy(part, energies, &["energy_per_op", "energy"])?,
    };
    Ok(ComputeLevel {
        name: part.name.clone(),
        energy,
        rate: 1.0,
        leakage: given.and_then(|a| a.first(&["leak"])).unwrap_or(0.0),
    })
}

/// An energy that the architecture itself gives.
fn stated_energy(
    part: &Part<'_>,
    energies: &Energies,
    keys: &[&str],
) -> Result<f64, TimeloopError> {
    match part.attribute(keys) {
        Some(energy) => energy.amount(),
        None if energies.is_empty() => Ok(0.0),
        None => Err(part.at.fail(format!(
            "the ERT has no energies of `{}`; add them",
            part.name
        ))),
    }
}

/// Words of an access, and instances that share it.
fn block_and_cluster(
    part: &Part<'_>,
    word_bits: u64,
    front_end: bool,
) -> Result<(u64, u64), TimeloopError> {
    let read = |keys: &[&str]| match part.attribute(keys) {
        Some(n) => n.count().map(Some),
        None => Ok(None),
    };
    let block = read(&["block_size", "n_words"])?;
    let cluster = read(&["cluster_size"])?;
    let width = read(&["width", "memory_width"])?;
    let divide = |width: u64, by: u64| {
        let unit = word_bits.saturating_mul(by);
        if unit == 0 || !width.is_multiple_of(unit) {
            return Err(part.at.fail(format!(
                "its width of {width} bits is no multiple of {unit} (word bits x block_size or cluster_size)"
            )));
        }
        Ok(width / unit)
    };
    match (block, cluster, width) {
        (Some(block), Some(cluster), _) => Ok((block, cluster)),
        (block, cluster, None) => Ok((block.unwrap_or(1), cluster.unwrap_or(1))),
        (Some(block), None, Some(width)) => Ok((block, divide(width, block)?)),
        (None, Some(cluster), Some(width)) => Ok((divide(width, cluster)?, cluster)),
        (None, None, Some(width)) if front_end => Ok((divide(width, 1)?, 1)),
        (None, None, Some(width)) => Ok((1, divide(width, 1)?)),
    }
}

/// Capacity in words; infinite if none is given.
fn words(part: &Part<'_>, word_bits: f64, block: u64) -> Result<f64, TimeloopError> {
    if let Some(entries) = part.attribute(&["entries"]) {
        return entries.amount();
    }
    if let Some(depth) = part.attribute(&["depth", "memory_depth"]) {
        return Ok(depth.amount()? * block as f64);
    }
    if let Some(kilobytes) = part.attribute(&["sizeKB", "sizekb"]) {
        return Ok((kilobytes.amount()? * 8192.0 / word_bits).floor());
    }
    Ok(f64::INFINITY)
}

/// What a memory may say that the convention cannot.
fn refuse(part: &Part<'_>) -> Result<(), TimeloopError> {
    match part.attribute(&["reduction_supported"]) {
        Some(supported) if !supported.truth()? => {
            return Err(supported.fail("a memory that cannot add partial sums is not told"));
        }
        _ => {}
    }
    for (key, what) in [
        ("network_fill_latency", "latencies of networks"),
        ("network_drain_latency", "latencies of networks"),
        ("addr_gen_energy", "energies of addresses"),
    ] {
        match part.attribute(&[key]) {
            Some(n) if n.number()? > 0.0 => {
                return Err(n.fail(format!("{what} are not told; set it to 0")));
            }
            _ => {}
        }
    }
    match part.attribute(&["per_dataspace_bandwidth_consumption_scale"]) {
        Some(scales) if !scales.is_empty() => {
            Err(scales.fail("bandwidth scales of single data spaces are not told; remove them"))
        }
        _ => Ok(()),
    }
}

/// The memory of a part.
pub(super) fn memory(
    part: &Part<'_>,
    front_end: bool,
    given: Option<&Actions>,
    energies: &Energies,
    operands: usize,
) -> Result<MemoryLevel, TimeloopError> {
    let word_bits = match part.attribute(&["word_bits", "word_width", "datawidth"]) {
        Some(bits) => bits.count()?,
        None => 16,
    };
    let (block, cluster) = block_and_cluster(part, word_bits, front_end)?;
    let word = word_bits as f64;
    refuse(part)?;
    let buffering = match part.attribute(&["multiple_buffering"]) {
        Some(n) => n.amount()?.max(1.0),
        None => 1.0,
    };
    let mut memory = MemoryLevel {
        capacity: words(part, word, block)? * word,
        buffering,
        block,
        cluster,
        ports: ports(part, word, operands)?,
        ..MemoryLevel::unlimited(part.name.clone(), operands, word)
    };
    let per_bit = |access: f64| access / (word * block as f64);
    match given {
        Some(actions) => {
            let read = actions.first(&["random_read", "read"]);
            let write = actions.first(&["random_fill", "write", "fill"]);
            let update = actions.first(&["random_update", "update", "write"]);
            memory.read_energy = per_bit(read.or(write).unwrap_or(0.0));
            memory.write_energy = per_bit(write.or(read).unwrap_or(0.0));
            memory.update_energy = per_bit(update.or(read).unwrap_or(0.0));
            memory.leakage = actions.first(&["leak"]).unwrap_or(0.0);
        }
        None => {
            let energy = per_bit(stated_energy(part, energies, &["vector_access_energy"])?);
            memory.read_energy = energy;
            memory.write_energy = energy;
            memory.update_energy = energy;
        }
    }
    if part.class.to_ascii_lowercase().contains("dram") && part.attribute(&["depth"]).is_none() {
        memory.capacity = f64::INFINITY;
    }
    Ok(memory)
}

fn ports(part: &Part<'_>, word: f64, operands: usize) -> Result<Vec<Port>, TimeloopError> {
    let rate = |key: &str| match part.attribute(&[key]) {
        Some(n) => {
            let rate = n.amount()?;
            if rate == 0.0 {
                return Err(n.fail("a bandwidth of 0 never ends; leave it out for no limit"));
            }
            Ok(Some(rate * word))
        }
        None => Ok(None),
    };
    let carries = |transfers: &[Transfer]| {
        let all = (0..operands).flat_map(|o| transfers.iter().map(move |t| (o, *t)));
        all.collect::<Vec<_>>()
    };
    let port = |name: &str, read_rate: f64, write_rate: f64, transfers: &[Transfer]| Port {
        name: name.into(),
        read_rate,
        write_rate,
        granule: 1.0,
        access_energy: None,
        carries: carries(transfers),
    };
    let half = rate("bandwidth")?.map(|r| r / 2.0);
    let mut ports = Vec::new();
    if let Some(r) = rate("read_bandwidth")?.or(half) {
        let reads = [Transfer::ToBelow, Transfer::ToAbove];
        ports.push(port("read", r, f64::INFINITY, &reads));
    }
    if let Some(w) = rate("write_bandwidth")?.or(half) {
        let writes = [Transfer::FromAbove, Transfer::FromBelow];
        ports.push(port("write", f64::INFINITY, w, &writes));
    }
    if let Some(both) = rate("shared_bandwidth")? {
        ports.push(port("shared", both, both, &Transfer::ALL));
    }
    Ok(ports)
}
