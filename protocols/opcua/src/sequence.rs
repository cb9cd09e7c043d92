//! Sequence numbers of notification messages: 1 to 4,294,967,295, then 1 again.

/// How many numbers there are; 0 stands before 1, where the largest number stands too.
const RING: i64 = u32::MAX as i64;

/// The number after `number`; 1 after 0 and after the largest.
pub(crate) fn next(number: u32) -> u32 {
    if number == u32::MAX { 1 } else { number + 1 }
}

/// The number before `number`.
pub(crate) fn previous(number: u32) -> u32 {
    if number <= 1 { u32::MAX } else { number - 1 }
}

/// How many steps lead from `from` to `to`; negative if `to` lies behind.
pub(crate) fn steps(from: u32, to: u32) -> i64 {
    let ahead = (i64::from(to) - i64::from(from)).rem_euclid(RING);
    if ahead > RING / 2 { ahead - RING } else { ahead }
}

#[cfg(test)]
mod tests {
    use super::{next, previous, steps};

    #[test]
    fn numbers_wrap_from_the_largest_to_one() {
        assert_eq!([next(0), next(1), next(u32::MAX - 1), next(u32::MAX)], [1, 2, u32::MAX, 1]);
        assert_eq!([previous(2), previous(1), previous(u32::MAX)], [1, u32::MAX, u32::MAX - 1]);
    }

    #[test]
    fn steps_are_counted_across_the_wrap_in_both_directions() {
        for (from, to, expected) in
            [(0, 1, 1), (5, 5, 0), (5, 9, 4), (9, 5, -4), (u32::MAX, 1, 1), (u32::MAX - 1, 2, 3), (1, u32::MAX, -1), (u32::MAX, 0, 0)]
        {
            assert_eq!(steps(from, to), expected, "from {from} to {to}");
        }
    }
}
