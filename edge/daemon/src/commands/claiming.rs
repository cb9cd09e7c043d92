//! Commands whose claims were not seen yet, and their order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use asset_stream::command::{Command, NotACommand};

use super::index::Name;

/// So many commands, and so many bytes of them, may wait: an edge that comes back meets all that was asked meanwhile at once.
const MOST: usize = 20_000;
const MOST_BYTES: usize = 16 << 20;

/// A command that is claimed.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) method: String,
    pub(crate) command: Result<Command, NotACommand>,
    pub(crate) digest: Option<u64>,
    /// Of its record, in bytes.
    pub(crate) size: usize,
    /// When it was claimed last.
    pub(crate) asked: Instant,
    /// What its first claim says; `None`: it was not seen yet.
    pub(crate) owner: Option<Owner>,
}

/// Whose a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Of this life of this edge.
    Ours,
    /// Of an earlier life of this edge, with the same log.
    Earlier,
    /// Of another edge, or of an earlier log of this one.
    Theirs,
}

/// All that wait, and the order of each asset's.
#[derive(Debug, Default)]
pub(crate) struct Claiming {
    pending: HashMap<Name, Pending>,
    order: HashMap<Arc<str>, BTreeMap<(i32, i64), Name>>,
    bytes: usize,
}

impl Claiming {
    pub(crate) fn contains(&self, name: &Name) -> bool {
        self.pending.contains_key(name)
    }

    pub(crate) fn get(&self, name: &Name) -> Option<&Pending> {
        self.pending.get(name)
    }

    /// Whether there is room for a command of so many bytes.
    pub(crate) fn takes(&self, size: usize) -> bool {
        self.pending.len() < MOST && self.bytes.saturating_add(size) <= MOST_BYTES
    }

    pub(crate) fn insert(&mut self, name: Name, pending: Pending) {
        self.bytes += pending.size;
        self.order.entry(name.asset.clone()).or_default().insert((pending.partition, pending.offset), name.clone());
        self.pending.insert(name, pending);
    }

    /// A claim was seen. The first of a command counts; whether it waits here.
    pub(crate) fn claimed(&mut self, name: &Name, owner: Owner) -> bool {
        match self.pending.get_mut(name) {
            Some(pending) => {
                pending.owner.get_or_insert(owner);
                true
            }
            None => false,
        }
    }

    /// The asset's first command, if it is known whose it is: those behind it wait for that, so that they are not begun before it.
    pub(crate) fn take_first(&mut self, asset: &str) -> Option<(Name, Pending, Owner)> {
        let order = self.order.get_mut(asset)?;
        let (place, name) = order.first_key_value().map(|(place, name)| (*place, name.clone()))?;
        let owner = self.pending.get(&name)?.owner?;
        order.remove(&place);
        if order.is_empty() {
            self.order.remove(asset);
        }
        let pending = self.pending.remove(&name)?;
        self.bytes = self.bytes.saturating_sub(pending.size);
        Some((name, pending, owner))
    }

    /// Those that are to be claimed again, as their claims did not arrive.
    pub(crate) fn overdue(&mut self, after: std::time::Duration) -> impl Iterator<Item = (&Name, &mut Pending)> {
        self.pending.iter_mut().filter(move |(_, pending)| pending.owner.is_none() && pending.asked.elapsed() >= after)
    }

    /// Forgets all of them: they are read again on another way.
    pub(crate) fn clear(&mut self) -> Vec<Name> {
        self.order.clear();
        self.bytes = 0;
        std::mem::take(&mut self.pending).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Claiming, Owner, Pending};
    use crate::commands::index::Name;
    use asset_stream::command::NotACommand;
    use std::time::Instant;

    fn name(asset: &str, id: &str) -> Name {
        Name { asset: asset.into(), sender: "S".into(), id: id.into() }
    }

    fn pending(offset: i64, size: usize) -> Pending {
        let command = Err(NotACommand::NoCorrelationId);
        Pending { partition: 0, offset, method: "M".into(), command, digest: None, size, asked: Instant::now(), owner: None }
    }

    #[test]
    fn commands_of_an_asset_leave_in_their_order_whatever_the_order_of_their_claims() {
        let mut claiming = Claiming::default();
        for (asset, id, offset) in [("A", "1", 1), ("A", "2", 2), ("B", "3", 3)] {
            claiming.insert(name(asset, id), pending(offset, 1));
        }
        assert!(claiming.claimed(&name("A", "2"), Owner::Ours));
        assert!(claiming.take_first("A").is_none(), "the first is not claimed yet");
        assert!(claiming.claimed(&name("B", "3"), Owner::Theirs));
        assert!(claiming.take_first("B").is_some_and(|(_, _, owner)| owner == Owner::Theirs));
        assert!(claiming.claimed(&name("A", "1"), Owner::Earlier));
        assert!(claiming.claimed(&name("A", "1"), Owner::Theirs), "a later claim says nothing");
        let mut taken = Vec::new();
        while let Some((name, _, owner)) = claiming.take_first("A") {
            taken.push((name.id, owner));
        }
        assert_eq!(taken, [("1".to_owned(), Owner::Earlier), ("2".to_owned(), Owner::Ours)]);
        assert!(!claiming.claimed(&name("A", "1"), Owner::Ours));
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let mut claiming = Claiming::default();
        claiming.insert(name("A", "1"), pending(1, super::MOST_BYTES - 10));
        assert!(claiming.takes(10) && !claiming.takes(11));
        claiming.claimed(&name("A", "1"), Owner::Ours);
        claiming.take_first("A").expect("claimed");
        assert!(claiming.takes(11));
    }
}
