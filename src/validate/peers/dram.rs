//! Patterns of requests that DRAMsim3 ran on a channel: the share of the peak that each reaches
//! ([`presil_hwmodels::dram::reference`]). The channels are those of `tests/data/dram/channels.csv`.

use presil_hwmodels::dram::reference::{ChannelRow, EfficiencyRow};

use super::super::files::rows;
use super::super::{Case, relative};
use super::{File, failed, left_out};

const CLASS: &str = "peer: dramsim3";
const CHANNELS: &str = include_str!("../../../tests/data/dram/channels.csv");

/// The rows of a file.
pub(super) fn cases(file: &File) -> Vec<Case> {
    let read = rows("channels.csv", CHANNELS).and_then(|c| Ok((c, rows(&file.name, &file.text)?)));
    let (channels, measured): (Vec<ChannelRow>, Vec<EfficiencyRow>) = match read {
        Ok(both) => both,
        Err(error) => return vec![failed(CLASS, &file.name, file, error.to_string())],
    };
    measured
        .iter()
        .map(|row| case(file, &channels, row))
        .collect()
}

fn case(file: &File, channels: &[ChannelRow], row: &EfficiencyRow) -> Case {
    let name = format!("{} {} {}", row.ini, row.mapping, row.pattern);
    let own = |c: &&ChannelRow| c.ini == row.ini && c.mapping == row.mapping;
    let channel = channels.iter().find(own).and_then(ChannelRow::channel);
    let (Some(channel), Some(demand)) = (channel, row.demand()) else {
        let reason = "no channel of that name, or no such pattern";
        return left_out(CLASS, &name, file, reason.into());
    };
    let predicted = channel.efficiency(demand);
    let error = relative(predicted, row.eff);
    let tolerance = row.tolerance();
    Case {
        name,
        class: CLASS.into(),
        predicted: Some(predicted),
        reference: row.eff,
        unit: "of the peak".into(),
        error: Some(error),
        tolerance,
        passed: tolerance.is_some_and(|t| error.abs() <= t),
        source: file.name.clone(),
        note: String::new(),
    }
}
