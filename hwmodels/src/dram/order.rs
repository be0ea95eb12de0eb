//! Where an address lies: the order of its fields.
//!
//! An order is written from the most significant field to the least one, as `row-rank-bank-group-column`: neighbours then
//! lie along a row (column), the next row's worth of them in the next bank group, then in the next bank of each group.
//! Channels are not part of it: a chip's channels lie below all fields. DRAMsim3 writes the same in letters, two for each
//! field: `rochrababgco` (its DDR4, LPDDR4 and GDDR6) is `row-rank-bank-group-column`, `rorabgbachco` (its HBM2)
//! `row-rank-group-bank-column`, and `rochracobabg` is `row-rank-column-bank-group`, in which neighbours
//! lie in different bank groups.

use std::fmt;
use std::str::FromStr;

use super::Channel;

/// A part of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Row of a bank.
    Row,
    /// Rank.
    Rank,
    /// Bank group.
    Group,
    /// Bank of a group.
    Bank,
    /// Burst of a row.
    Column,
}

impl Field {
    const ALL: [Self; 5] = [Self::Row, Self::Rank, Self::Group, Self::Bank, Self::Column];

    fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Rank => "rank",
            Self::Group => "group",
            Self::Bank => "bank",
            Self::Column => "column",
        }
    }
}

/// The fields of an address, the most significant one first; the first is the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressOrder([Field; 5]);

/// An order that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no order of an address: write row, rank, bank, group and column, the row first, as `row-rank-column-bank-group`"
)]
pub struct NoOrder(String);

impl Default for AddressOrder {
    /// Neighbours in different bank groups, then along their rows.
    fn default() -> Self {
        Self([
            Field::Row,
            Field::Rank,
            Field::Bank,
            Field::Column,
            Field::Group,
        ])
    }
}

impl FromStr for AddressOrder {
    type Err = NoOrder;

    fn from_str(text: &str) -> Result<Self, NoOrder> {
        let field = |name: &str| Field::ALL.into_iter().find(|f| f.name() == name);
        let fields: Option<Vec<Field>> = text.split('-').map(field).collect();
        let all = fields.and_then(|f| <[Field; 5]>::try_from(f).ok());
        let order = all.filter(|f| f[0] == Field::Row && Field::ALL.iter().all(|x| f.contains(x)));
        order.map(Self).ok_or_else(|| NoOrder(text.into()))
    }
}

impl fmt::Display for AddressOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|field| field.name()).collect();
        f.write_str(&names.join("-"))
    }
}

/// Where a burst lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Row of its bank.
    pub row: u64,
    /// Rank.
    pub rank: u64,
    /// Bank group, of all ranks.
    pub group: u64,
    /// Bank, of all ranks and groups.
    pub bank: u64,
}

impl AddressOrder {
    /// Whether a field is less significant than another.
    pub fn below(&self, low: Field, high: Field) -> bool {
        let at = |f: Field| self.0.iter().position(|x| *x == f);
        at(low) > at(high)
    }

    /// Whether neighbours lie in different bank groups.
    pub fn interleaves_groups(&self) -> bool {
        self.below(Field::Group, Field::Column)
    }

    /// The place of a channel's burst, by its number.
    pub fn place(&self, channel: &Channel, burst: u64) -> Place {
        let mut rest = burst;
        let (mut rank, mut group, mut bank) = (0, 0, 0);
        for field in self.0.iter().skip(1).rev() {
            let size = match field {
                Field::Row => continue,
                Field::Rank => channel.ranks,
                Field::Group => channel.groups,
                Field::Bank => channel.banks,
                Field::Column => channel.page_bursts(),
            }
            .max(1);
            let value = rest % size;
            rest /= size;
            match field {
                Field::Rank => rank = value,
                Field::Group => group = value,
                Field::Bank => bank = value,
                Field::Row | Field::Column => {}
            }
        }
        let group = rank * channel.groups.max(1) + group;
        Place {
            row: rest,
            rank,
            group,
            bank: group * channel.banks.max(1) + bank,
        }
    }
}
