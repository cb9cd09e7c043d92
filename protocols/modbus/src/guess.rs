//! In which order a device sends the words of its numbers, by which order makes sensible numbers of them. Pure.

use asset_stream::Value;

use crate::decode::Decoder;
use crate::types::{DataType, WordOrder};

/// The orders, as a device file writes them.
const ORDERS: [(&str, WordOrder); 4] =
    [("ABCD", WordOrder::Abcd), ("CDAB", WordOrder::Cdab), ("BADC", WordOrder::Badc), ("DCBA", WordOrder::Dcba)];
/// What machines measure lies between these, mostly.
const SENSIBLE: std::ops::Range<f32> = 1e-3..1e7;
/// Fewer numbers are an accident.
const EVIDENCE: usize = 2;
const EXAMPLES: usize = 4;

/// What speaks for an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// As a device file writes it.
    pub order: &'static str,
    /// How to read such a number.
    pub decoder: Decoder,
    /// Whether its first register is that of each range (0) or the second one (1).
    pub begin: usize,
    /// Pairs of registers that are sensible as `float32` in this order, one behind the other.
    pub sensible: usize,
    /// Some of these numbers, for a person to judge.
    pub examples: Vec<String>,
}

impl Guess {
    /// The number that a pair of registers makes, if it is one that machines measure.
    pub fn number(&self, pair: &[u16]) -> Option<f32> {
        sensible(&self.decoder, pair)
    }
}

fn sensible(decoder: &Decoder, pair: &[u16]) -> Option<f32> {
    match decoder.decode(pair) {
        Some((Value::Float32(number), _)) if SENSIBLE.contains(&number.abs()) => Some(number),
        _ => None,
    }
}

/// Numbers that one way of reading makes of the registers.
struct Reading {
    order: &'static str,
    decoder: Decoder,
    begin: usize,
    numbers: Vec<f32>,
    /// Pairs that hold anything.
    pairs: usize,
    score: usize,
}

/// Looks at runs of neighbouring registers. `None`: no order is clearly better than the others.
///
/// The low word of one number and the high word of the next make a sensible number too, in another order. So numbers count more that begin
/// where a run begins, and that have few decimals, as most do that people chose.
pub(crate) fn guess(runs: &[&[u16]]) -> Option<Guess> {
    let mut readings: Vec<Reading> =
        ORDERS.iter().flat_map(|(name, order)| [0, 1].map(|begin| Reading::of(runs, name, *order, begin))).collect();
    readings.sort_by_key(|reading| std::cmp::Reverse(reading.score));
    let best = readings.first()?;
    let second = readings.iter().find(|reading| reading.order != best.order).map_or(0, |reading| reading.score);
    let is_clear = best.score * 5 >= second * 6 && best.numbers.len() >= EVIDENCE && best.numbers.len() * 4 >= best.pairs;
    let examples = best.numbers.iter().take(EXAMPLES).map(ToString::to_string).collect();
    is_clear.then_some(Guess { order: best.order, decoder: best.decoder, begin: best.begin, sensible: best.numbers.len(), examples })
}

impl Reading {
    /// Reads every second pair, from the first or the second register of each run on.
    fn of(runs: &[&[u16]], name: &'static str, order: WordOrder, begin: usize) -> Self {
        let decoder = Decoder { data_type: DataType::Float32, order, bits: None, scaling: None };
        let mut reading = Self { order: name, decoder, begin, numbers: Vec::new(), pairs: 0, score: 0 };
        for pair in runs.iter().flat_map(|run| run.get(begin..).unwrap_or_default().chunks_exact(2)).filter(|pair| pair != &[0, 0]) {
            reading.pairs += 1;
            reading.numbers.extend(sensible(&decoder, pair));
        }
        let short = reading.numbers.iter().filter(|number| is_short(**number)).count();
        let count = reading.numbers.len();
        reading.score = 2 * count + 3 * short + if begin == 0 { count } else { 0 };
        reading
    }
}

/// Up to five digits tell it exactly.
fn is_short(number: f32) -> bool {
    let digits: String = number.to_string().chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').len() <= 5
}

#[cfg(test)]
mod tests {
    use super::{Guess, guess};

    fn words(numbers: &[f32]) -> Vec<u16> {
        numbers.iter().flat_map(|n| [(n.to_bits() >> 16) as u16, n.to_bits() as u16]).collect()
    }

    #[test]
    fn the_order_that_makes_sensible_numbers_is_found_and_integers_say_nothing() {
        let numbers = [230.4, 229.9, 12.3, 49.98, 0.92, -3.7];
        let abcd = words(&numbers);
        let swapped: Vec<u16> = abcd.chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect();
        let bytes: Vec<u16> = abcd.iter().map(|word| word.swap_bytes()).collect();
        for (words, order) in [(abcd.clone(), "ABCD"), (swapped, "CDAB"), (bytes, "BADC")] {
            let found = guess(&[&words]).unwrap_or_else(|| panic!("nothing found for {order}"));
            assert!(found.order == order && found.sensible == 6 && found.examples[0] == "230.4", "{order}: {found:?}");
        }
        let odd = [[7].as_slice(), &abcd].concat();
        assert!(matches!(guess(&[&odd]), Some(Guess { order: "ABCD", .. })), "numbers need not begin at an even place");
        let integers: Vec<u16> = (0..100).map(|i| i * 37 % 500).collect();
        assert_eq!(guess(&[&integers]), None);
        assert_eq!(guess(&[&[0; 100], &[]]), None);
    }
}
