//! `ERT`, `ERT_summary`: Accelergy's energy per action of each component, in picojoules.
//!
//! ```yaml
//! ERT:
//!   tables:
//!   - name: system.chip.GLB[1..1]
//!     actions:
//!     - {name: read, arguments: {...}, energy: 6.2}      # the largest over all arguments counts
//! ```
//!
//! Components go by the last word of their name, without the range.

use super::TimeloopError;
use super::tree::Cursor;

/// Energies of a component's actions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Actions {
    name: String,
    energies: Vec<(String, f64)>,
}

impl Actions {
    /// The energy of the first action that is there.
    pub fn first(&self, names: &[&str]) -> Option<f64> {
        let of = |name: &str| {
            self.energies
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, e)| *e)
        };
        names.iter().find_map(|n| of(n))
    }
}

/// Energies of all components.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Energies {
    components: Vec<Actions>,
}

impl Energies {
    /// The actions of a component's short name.
    pub fn of(&self, name: &str) -> Option<&Actions> {
        self.components.iter().find(|c| c.name == name)
    }

    /// Whether no table was given.
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    pub(super) fn add(&mut self, component: &str, action: &str, energy: f64) {
        let name = short_name(component);
        let known = self.components.iter().position(|c| c.name == name);
        let at = known.unwrap_or_else(|| {
            self.components.push(Actions {
                name: name.into(),
                energies: Vec::new(),
            });
            self.components.len() - 1
        });
        let energies = &mut self.components[at].energies;
        match energies.iter_mut().find(|(n, _)| n == action) {
            Some((_, old)) => *old = old.max(energy),
            None => energies.push((action.into(), energy)),
        }
    }

    pub(super) fn read(&mut self, section: &Cursor<'_>) -> Result<(), TimeloopError> {
        let tables = section
            .first(&["tables", "table_summary"])
            .ok_or_else(|| section.fail("needs a key `tables`"))?;
        for table in tables.items()? {
            let name = table.need("name")?.text()?.to_string();
            for action in table.need("actions")?.items()? {
                let energy = action
                    .first(&["energy", "max_energy"])
                    .ok_or_else(|| action.fail("needs a key `energy`"))?
                    .amount()?;
                self.add(&name, action.need("name")?.text()?, energy);
            }
        }
        Ok(())
    }

    /// Tables as `{component: {action: energy}}`.
    pub(super) fn read_flat(&mut self, tables: &Cursor<'_>) -> Result<(), TimeloopError> {
        for (component, actions) in tables.entries()? {
            for (action, energy) in actions.entries()? {
                self.add(component, action, energy.amount()?);
            }
        }
        Ok(())
    }
}

/// `GLB` of `system.chip.GLB[1..1]`.
fn short_name(name: &str) -> &str {
    let plain = name.split('[').next().unwrap_or(name);
    // `chip[0..3].GLB[1..1]` has a range in the middle.
    let last = name
        .rsplit('.')
        .find(|w| w.chars().any(char::is_alphabetic));
    let last = last.unwrap_or(plain);
    last.split('[').next().unwrap_or(last)
}
