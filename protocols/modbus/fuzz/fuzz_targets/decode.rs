//! Whatever registers a device sends, decoding neither panics nor invents a value, and the sample can be written as an event.
#![no_main]

use std::sync::Arc;

use asset_stream::{DataItem, Event, Kind, Sample, Timestamp};
use gateway_modbus::{Bits, DataType, Decoder, Encoding, Scaling, Trim, WordOrder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [kind, order, bits, first, last, length, scale @ .., ] = data else { return };
    let Some((scale, registers)) = scale.split_at_checked(8) else { return };
    let mut data_type = DataType::WORDS[usize::from(*kind) % DataType::WORDS.len()].1;
    if let DataType::String { length: registers, encoding, trim } = &mut data_type {
        *registers = u16::from(*length);
        *encoding = Encoding::WORDS[usize::from(*first) % Encoding::WORDS.len()].1;
        *trim = Trim::WORDS[usize::from(*last) % Trim::WORDS.len()].1;
    }
    let decoder = Decoder {
        data_type,
        order: WordOrder::WORDS[usize::from(*order) % WordOrder::WORDS.len()].1,
        bits: [None, Some(Bits::One(*first)), Some(Bits::Range(*first, *last))][usize::from(*bits) % 3],
        scaling: Scaling::new(f64::from_le_bytes(scale.try_into().expect("eight bytes")), 1.0),
    };
    let registers: Vec<u16> = registers.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let decoded = decoder.decode(&registers);
    assert_eq!(decoded.is_some(), registers.len() >= usize::from(data_type.registers()));
    if let Some((value, quality)) = decoded {
        let item = Arc::new(DataItem::new("A", "id", "tag", Kind::Samples));
        let now = Timestamp::from_millis(0);
        let sample = Sample { item, value, quality, timestamp: now, ingested: now, attributes: Vec::new() };
        let mut json = Vec::new();
        sample.encode(&mut json);
        Event::decode(&json).expect("what is written can be read");
    }
});
