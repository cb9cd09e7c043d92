use asset_stream::{Quality, Value};
use proptest::prelude::*;

use super::Decoder;
use crate::types::{Bits, DataType, Encoding, Scaling, Trim, WordOrder};

const ORDERS: [WordOrder; 4] = [WordOrder::Abcd, WordOrder::Cdab, WordOrder::Badc, WordOrder::Dcba];

fn plain(data_type: DataType) -> Decoder {
    Decoder { data_type, order: WordOrder::Abcd, bits: None, scaling: None }
}

fn value(decoder: Decoder, registers: &[u16]) -> Value {
    decoder.decode(registers).expect("enough registers").0
}

fn text(encoding: Encoding, trim: Trim, registers: &[u16]) -> (Value, Quality) {
    let length = u16::try_from(registers.len()).expect("short");
    plain(DataType::String { length, encoding, trim }).decode(registers).expect("enough registers")
}

fn order(letters: &str) -> WordOrder {
    WordOrder::WORDS.into_iter().find_map(|(word, order)| (word == letters).then_some(order)).expect("known letters")
}

/// What a device sends: the bytes A, B, C, … of a value, moved to where the letters of the order say.
fn sent(bytes: &[u8], letters: &str) -> Vec<u16> {
    let moved: Vec<u8> = letters.bytes().map(|letter| bytes[usize::from(letter - b'A')]).collect();
    moved.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

#[test]
fn the_letters_of_an_order_say_where_each_byte_stands() {
    for letters in ["ABCD", "CDAB", "BADC", "DCBA"] {
        let order = order(letters);
        let registers = sent(&0x0102_0304_u32.to_be_bytes(), letters);
        let seen = value(Decoder { order, ..plain(DataType::UInt32) }, &registers);
        assert_eq!(seen, Value::UInt(0x0102_0304), "{letters}: {registers:04x?}");
    }
    for letters in ["ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA"] {
        let order = order(letters);
        let registers = sent(&0x0102_0304_0506_0708_u64.to_be_bytes(), letters);
        let seen = value(Decoder { order, ..plain(DataType::UInt64) }, &registers);
        assert_eq!(seen, Value::UInt(0x0102_0304_0506_0708), "{letters}: {registers:04x?}");
    }
}

#[test]
fn known_numbers_are_read() {
    assert_eq!(value(plain(DataType::Int16), &[0xFFFF]), Value::Int(-1));
    assert_eq!(value(plain(DataType::UInt16), &[0xFFFF]), Value::UInt(65_535));
    assert_eq!(value(plain(DataType::Int32), &[0xFFFF, 0xFFFE]), Value::Int(-2));
    assert_eq!(value(plain(DataType::Float32), &[0x41C2, 0x6666]), Value::Float32(24.3));
    let swapped = Decoder { order: WordOrder::Cdab, ..plain(DataType::Float32) };
    assert_eq!(value(swapped, &[0x6666, 0x41C2]), Value::Float32(24.3));
    assert_eq!(value(Decoder { order: WordOrder::Badc, ..plain(DataType::UInt16) }, &[0x1234]), Value::UInt(0x3412));
    assert_eq!((value(plain(DataType::Bool), &[0]), value(plain(DataType::Bool), &[0xFF00])), (Value::Bool(false), Value::Bool(true)));
    assert_eq!(plain(DataType::UInt32).decode(&[1]), None);
}

#[test]
fn bits_are_counted_from_the_least_significant() {
    let pick = |bits| Decoder { bits: Some(bits), ..plain(DataType::UInt16) };
    assert_eq!(value(pick(Bits::One(0)), &[0b0001]), Value::Bool(true));
    assert_eq!(value(pick(Bits::One(15)), &[0x7FFF]), Value::Bool(false));
    assert_eq!(value(pick(Bits::Range(4, 7)), &[0xAB5C]), Value::UInt(5));
    assert_eq!(value(pick(Bits::Range(0, 15)), &[0xAB5C]), Value::UInt(0xAB5C));
    let scaled = Decoder { scaling: Scaling::new(0.5, 1.0), ..pick(Bits::Range(4, 7)) };
    assert_eq!(value(scaled, &[0x0050]), Value::Float64(3.5));
}

#[test]
fn text_is_cut_and_decoded_as_asked() {
    let padded = [0x4142, 0x4320, 0x2000, 0x5858]; // "ABC  \0XX"
    for (trim, expected) in [(Trim::All, "ABC"), (Trim::Nul, "ABC  "), (Trim::Space, "ABC  \0XX"), (Trim::None, "ABC  \0XX")] {
        assert_eq!(text(Encoding::Ascii, trim, &padded), (Value::from(expected), Quality::Good), "{trim:?}");
    }
    assert_eq!(text(Encoding::Ascii, Trim::Space, &[0x2020, 0x2020]).0, Value::from(""));
    assert_eq!(text(Encoding::Utf8, Trim::All, &[0xC2B0, 0x4300]), (Value::from("°C"), Quality::Good));
    assert_eq!(text(Encoding::Latin1, Trim::All, &[0xB043]), (Value::from("°C"), Quality::Good));
    let invalid = Quality::Uncertain("InvalidText".into());
    assert_eq!(text(Encoding::Ascii, Trim::All, &[0xB043]), (Value::from("\u{FFFD}C"), invalid.clone()));
    assert_eq!(text(Encoding::Utf8, Trim::All, &[0xB043]), (Value::from("\u{FFFD}C"), invalid));
    let swapped = DataType::String { length: 2, encoding: Encoding::Ascii, trim: Trim::All };
    let swapped = Decoder { order: WordOrder::Dcba, ..plain(swapped) };
    assert_eq!(value(swapped, &[0x4241, 0x0043]), Value::from("ABC\0".trim_end_matches('\0')), "words of a text are never swapped");
}

/// The registers in which a device of this order keeps a number: written independently of the decoder.
fn encode(bytes: &[u8], order: WordOrder) -> Vec<u16> {
    let mut words: Vec<[u8; 2]> = bytes.chunks(2).map(|pair| [pair[0], pair[1]]).collect();
    if matches!(order, WordOrder::Cdab | WordOrder::Dcba) {
        words.reverse();
    }
    if matches!(order, WordOrder::Badc | WordOrder::Dcba) {
        words.iter_mut().for_each(|pair| pair.reverse());
    }
    words.into_iter().map(u16::from_be_bytes).collect()
}

fn any_type() -> impl Strategy<Value = DataType> {
    let encoding = prop::sample::select(vec![Encoding::Ascii, Encoding::Utf8, Encoding::Latin1]);
    let trim = prop::sample::select(vec![Trim::All, Trim::Nul, Trim::Space, Trim::None]);
    prop_oneof![
        prop::sample::select(DataType::WORDS.map(|(_, data_type)| data_type).to_vec()),
        (0_u16..200, encoding, trim).prop_map(|(length, encoding, trim)| DataType::String { length, encoding, trim }),
    ]
}

proptest! {
    #[test]
    fn every_number_is_read_back_in_every_order(raw: u64, order in prop::sample::select(ORDERS.to_vec())) {
        let read = |data_type, bytes: &[u8]| value(Decoder { order, ..plain(data_type) }, &encode(bytes, order));
        prop_assert_eq!(read(DataType::UInt64, &raw.to_be_bytes()), Value::UInt(raw));
        prop_assert_eq!(read(DataType::Int64, &raw.to_be_bytes()), Value::Int(raw as i64));
        prop_assert_eq!(read(DataType::UInt32, &(raw as u32).to_be_bytes()), Value::UInt(u64::from(raw as u32)));
        prop_assert_eq!(read(DataType::Int32, &(raw as u32).to_be_bytes()), Value::Int(i64::from(raw as i32)));
        prop_assert_eq!(read(DataType::UInt16, &(raw as u16).to_be_bytes()), Value::UInt(u64::from(raw as u16)));
        prop_assert_eq!(read(DataType::Int16, &(raw as u16).to_be_bytes()), Value::Int(i64::from(raw as i16)));
        let Value::Float64(double) = read(DataType::Float64, &raw.to_be_bytes()) else { panic!("a double is a double") };
        prop_assert_eq!(double.to_bits(), f64::from_bits(raw).to_bits());
        let Value::Float32(single) = read(DataType::Float32, &(raw as u32).to_be_bytes()) else { panic!("a float is a float") };
        prop_assert_eq!(single.to_bits(), f32::from_bits(raw as u32).to_bits());
    }

    #[test]
    fn nothing_a_device_sends_can_make_it_panic(
        registers in prop::collection::vec(any::<u16>(), 0..260),
        data_type in any_type(),
        order in prop::sample::select(ORDERS.to_vec()),
        first: u8,
        last: u8,
        scale: f64,
        offset: f64,
    ) {
        for bits in [None, Some(Bits::One(first)), Some(Bits::Range(first, last))] {
            let decoder = Decoder { data_type, order, bits, scaling: Scaling::new(scale, offset) };
            let enough = registers.len() >= usize::from(data_type.registers());
            prop_assert_eq!(decoder.decode(&registers).is_some(), enough);
        }
    }
}
