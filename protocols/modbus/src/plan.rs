//! From variables to as few requests as the device allows. Pure.

use crate::types::{Span, Table};

/// What a device takes in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most registers in a request: 1 to [`Limits::REGISTERS`].
    pub max_registers: u16,
    /// Most coils or discrete inputs in a request: 1 to [`Limits::BITS`].
    pub max_bits: u16,
    /// Which neighbours share a request.
    pub join: Join,
}

/// Which neighbours share a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Variables with at most this many unused registers between them; for bits 16 times as many.
    Gap(u16),
    /// None: each variable has a request of its own, for devices that give one value at a time.
    Never,
}

impl Limits {
    /// The most registers that an answer can carry.
    pub const REGISTERS: u16 = 125;
    /// The most bits that a request may ask for.
    pub const BITS: u16 = 2000;
    /// An unused register costs two bytes of an answer, a request costs about 13 bytes and two pauses of the line.
    pub const GAP: u16 = 10;

    fn most(&self, table: Table) -> u16 {
        if table.holds_bits() { self.max_bits } else { self.max_registers }
    }

    fn gap(&self, table: Table) -> Option<u32> {
        match self.join {
            Join::Never => None,
            Join::Gap(registers) if table.holds_bits() => Some(u32::from(registers) * 16),
            Join::Gap(registers) => Some(u32::from(registers)),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_registers: Self::REGISTERS, max_bits: Self::BITS, join: Join::Gap(Self::GAP) }
    }
}

/// One request and the variables that its answer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What is asked for.
    pub span: Span,
    /// Each variable's number and place, ordered by place; never empty.
    pub variables: Vec<(usize, Span)>,
}

impl Block {
    /// Two requests in place of one that the device refused, cut in the widest hole, or else in the middle. `None` for a single variable.
    ///
    /// The hole comes first because it is the likeliest cause: addresses that nobody asked for need not exist.
    pub fn split(&self) -> Option<(Self, Self)> {
        let middle = self.variables.len() / 2;
        let mut reach = 0;
        let holes = self.variables.windows(2).enumerate().map(|(i, pair)| {
            reach = reach.max(pair[0].1.end());
            (u32::from(pair[1].1.start()).saturating_sub(reach), std::cmp::Reverse(middle.abs_diff(i + 1)), i + 1)
        });
        let (_, _, cut) = holes.max()?;
        let (left, right) = self.variables.split_at(cut);
        Some((Self::of(left)?, Self::of(right)?))
    }

    fn of(variables: &[(usize, Span)]) -> Option<Self> {
        let (first, rest) = variables.split_first()?;
        let span = rest.iter().try_fold(first.1, |span, (_, next)| span.join(*next))?;
        Some(Self { span, variables: variables.to_vec() })
    }
}

/// Requests that cover every variable, ordered by table and address.
///
/// No request is larger than the limits, unless a single variable is; no variable is cut in two.
pub fn plan(variables: impl IntoIterator<Item = (usize, Span)>, limits: &Limits) -> Vec<Block> {
    let mut variables: Vec<_> = variables.into_iter().collect();
    variables.sort_by_key(|(number, span)| (*span, *number));
    let mut blocks: Vec<Block> = Vec::new();
    for (number, span) in variables {
        let joined = blocks.last().and_then(|block| joined(block.span, span, limits));
        match (joined, blocks.last_mut()) {
            (Some(joined), Some(block)) => {
                block.span = joined;
                block.variables.push((number, span));
            }
            _ => blocks.push(Block { span, variables: vec![(number, span)] }),
        }
    }
    blocks
}

fn joined(block: Span, next: Span, limits: &Limits) -> Option<Span> {
    let gap = limits.gap(next.table())?;
    let joined = block.join(next)?;
    let hole = u32::from(next.start()).saturating_sub(block.end());
    (hole <= gap && joined.count() <= limits.most(next.table())).then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::{Block, Join, Limits, plan};
    use crate::types::{Span, Table};
    use proptest::prelude::*;

    fn registers(places: &[(u16, u16)]) -> Vec<(usize, Span)> {
        places.iter().map(|(start, count)| Span::new(Table::HoldingRegisters, *start, *count).expect("valid")).enumerate().collect()
    }

    fn asked(blocks: &[Block]) -> Vec<(u16, u16)> {
        blocks.iter().map(|block| (block.span.start(), block.span.count())).collect()
    }

    #[test]
    fn neighbours_share_a_request_up_to_the_gap_and_the_limit() {
        let limits = Limits { max_registers: 20, join: Join::Gap(4), ..Limits::default() };
        let variables = registers(&[(0, 2), (2, 1), (7, 1), (13, 1), (18, 2), (20, 1)]);
        assert_eq!(asked(&plan(variables.clone(), &limits)), [(0, 8), (13, 8)]);
        assert_eq!(plan(variables, &Limits { join: Join::Never, ..limits }).len(), 6);
    }

    #[test]
    fn the_last_address_is_asked_for() {
        assert_eq!(asked(&plan(registers(&[(65_530, 4), (65_535, 1)]), &Limits::default())), [(65_530, 6)]);
    }

    #[test]
    fn a_refused_request_is_cut_in_its_widest_hole_or_in_the_middle() {
        let block = |places| plan(registers(places), &Limits::default()).remove(0);
        let (left, right) = block(&[(0, 1), (1, 1), (2, 1), (9, 1)]).split().expect("four variables");
        assert_eq!((asked(&[left]), asked(&[right])), (vec![(0, 3)], vec![(9, 1)]));
        let (left, right) = block(&[(0, 1), (1, 1), (2, 1), (3, 1)]).split().expect("four variables");
        assert_eq!((asked(&[left]), asked(&[right])), (vec![(0, 2)], vec![(2, 2)]));
        assert_eq!(block(&[(0, 100)]).split(), None);
    }

    fn any_variables() -> impl Strategy<Value = Vec<(usize, Span)>> {
        let span = (0_usize..4, prop_oneof![0_u16..400, 65_300_u16..=65_535], 1_u16..30).prop_filter_map(
            "within the table",
            |(table, start, count)| {
                let table = Table::ALL[table];
                Span::new(table, start, if table.holds_bits() { 1 } else { count })
            },
        );
        prop::collection::vec(span, 0..80).prop_map(|spans| spans.into_iter().enumerate().collect())
    }

    fn any_limits() -> impl Strategy<Value = Limits> {
        let join = prop_oneof![Just(Join::Never), (0_u16..50).prop_map(Join::Gap)];
        (1_u16..=125, 1_u16..=2000, join).prop_map(|(max_registers, max_bits, join)| Limits { max_registers, max_bits, join })
    }

    fn check(blocks: &[Block], variables: &[(usize, Span)], limits: &Limits) -> Result<(), TestCaseError> {
        let mut seen: Vec<usize> = blocks.iter().flat_map(|block| block.variables.iter().map(|(number, _)| *number)).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..variables.len()).collect::<Vec<_>>(), "each variable exactly once");
        for block in blocks {
            prop_assert!(block.variables.iter().all(|(number, span)| block.span.covers(*span) && variables[*number].1 == *span));
            prop_assert!(block.span.end() <= 65_536);
            let fits = block.span.count() <= limits.most(block.span.table());
            prop_assert!(fits || block.variables.iter().any(|(_, span)| *span == block.span), "{:?} exceeds {:?}", block, limits);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn every_variable_is_covered_once_and_no_limit_is_passed(variables in any_variables(), limits in any_limits()) {
            check(&plan(variables.clone(), &limits), &variables, &limits)?;
        }

        #[test]
        fn splitting_to_the_end_leaves_each_variable_alone(variables in any_variables(), limits in any_limits()) {
            let mut open = plan(variables.clone(), &limits);
            let mut single = Vec::new();
            while let Some(block) = open.pop() {
                match block.split() {
                    Some((left, right)) => open.extend([left, right]),
                    None => single.push(block),
                }
            }
            prop_assert!(single.iter().all(|block| block.variables.len() == 1 && block.span == block.variables[0].1));
            check(&single, &variables, &limits)?;
        }
    }
}
