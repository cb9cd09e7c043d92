use asset_stream::Value;
use proptest::prelude::*;

use super::{Encoded, Masked, Unfit};
use crate::decode::Decoder;
use crate::types::{Bits, DataType, Encoding, Scaling, Trim, WordOrder};

const ORDERS: [WordOrder; 4] = [WordOrder::Abcd, WordOrder::Cdab, WordOrder::Badc, WordOrder::Dcba];

fn plain(data_type: DataType) -> Decoder {
    Decoder { data_type, order: WordOrder::Abcd, bits: None, scaling: None }
}

fn whole(decoder: Decoder, text: &str) -> Vec<u16> {
    match decoder.encode(text) {
        Ok(Encoded::Whole(registers)) => registers,
        other => panic!("{text}: {other:?}"),
    }
}

/// The value as a sender would write it.
fn written(value: &Value) -> String {
    if let Value::Text(text) = value {
        return text.to_string();
    }
    let mut json = Vec::new();
    value.write(&mut json);
    String::from_utf8(json).expect("UTF-8")
}

#[test]
fn known_numbers_are_written() {
    assert_eq!(whole(plain(DataType::Int16), "-1"), [0xFFFF]);
    assert_eq!(whole(plain(DataType::UInt16), " 65535 "), [0xFFFF]);
    assert_eq!(whole(plain(DataType::UInt16), "5.0"), [5]);
    assert_eq!(whole(plain(DataType::Int32), "-2"), [0xFFFF, 0xFFFE]);
    assert_eq!(whole(plain(DataType::Float32), "24.3"), [0x41C2, 0x6666]);
    assert_eq!(whole(Decoder { order: WordOrder::Cdab, ..plain(DataType::Float32) }, "24.3"), [0x6666, 0x41C2]);
    assert_eq!(whole(Decoder { order: WordOrder::Badc, ..plain(DataType::UInt16) }, "13330"), [0x1234]);
    assert_eq!(whole(plain(DataType::UInt64), "18446744073709551615"), [0xFFFF; 4]);
    assert_eq!((whole(plain(DataType::Bool), "true"), whole(plain(DataType::Bool), "0")), (vec![1], vec![0]));
    assert_eq!((Decoder::encode_bit("false"), Decoder::encode_bit("1")), (Ok(false), Ok(true)));
}

#[test]
fn scaled_numbers_are_rounded_to_the_nearest_that_the_device_can_hold() {
    let scaled = |data_type, scale, offset| Decoder { scaling: Scaling::new(scale, offset), ..plain(data_type) };
    assert_eq!(whole(scaled(DataType::Int16, 0.1, 0.0), "24.3"), [243]);
    assert_eq!(whole(scaled(DataType::Int16, 0.1, 0.0), "-0.26"), [0xFFFD]);
    assert_eq!(whole(scaled(DataType::UInt16, 2.0, -40.0), "60"), [50]);
    assert_eq!(whole(scaled(DataType::Float32, 0.1, 0.0), "2.43"), [0x41C2, 0x6666]);
    let below = scaled(DataType::UInt16, 0.1, 0.0).encode("-0.1");
    assert_eq!(below, Err(Unfit::OutOfRange("-0.1 is out of range: 0 to 6553.5".into())));
    let downwards = scaled(DataType::UInt16, -1.0, 0.0).encode("1");
    assert_eq!(downwards, Err(Unfit::OutOfRange("1 is out of range: -65535 to 0".into())));
    assert!(matches!(scaled(DataType::UInt64, 1.0, 0.0).encode("18446744073709551616"), Err(Unfit::OutOfRange(_))));
    assert!(matches!(scaled(DataType::UInt64, 1e-300, 0.0).encode("1e300"), Err(Unfit::OutOfRange(_))));
}

#[test]
fn bits_leave_the_others_of_their_register_alone() {
    let pick = |data_type, bits| Decoder { bits: Some(bits), ..plain(data_type) };
    let part = |decoder: Decoder, text: &str| match decoder.encode(text) {
        Ok(Encoded::Part(part)) => part,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(part(pick(DataType::UInt16, Bits::One(3)), "true"), [Masked { mask: 8, bits: 8 }]);
    assert_eq!(part(pick(DataType::UInt16, Bits::One(3)), "false"), [Masked { mask: 8, bits: 0 }]);
    let nibble = part(pick(DataType::UInt16, Bits::Range(4, 7)), "5");
    assert_eq!((nibble[0], nibble[0].apply(0xABCD)), (Masked { mask: 0x00F0, bits: 0x0050 }, 0xAB5D));
    assert!(matches!(pick(DataType::UInt16, Bits::Range(4, 7)).encode("16"), Err(Unfit::OutOfRange(_))));
    let upper = part(pick(DataType::UInt32, Bits::One(16)), "1");
    assert_eq!(upper, [Masked { mask: 1, bits: 1 }, Masked { mask: 0, bits: 0 }], "the high word comes first");
    assert_eq!(part(pick(DataType::UInt64, Bits::Range(0, 63)), "1").len(), 4);
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let refused = |data_type, text: &str| match plain(data_type).encode(text) {
        Err(Unfit::WrongType(_)) => "type",
        Err(Unfit::OutOfRange(_)) => "range",
        Ok(encoded) => panic!("{text} was taken: {encoded:?}"),
    };
    for (data_type, text, reason) in [
        (DataType::UInt16, "65536", "range"),
        (DataType::UInt16, "-1", "range"),
        (DataType::UInt16, "1.5", "type"),
        (DataType::UInt16, "", "type"),
        (DataType::UInt16, "0x10", "type"),
        (DataType::UInt16, "true", "type"),
        (DataType::Int16, "-32769", "range"),
        (DataType::UInt64, "18446744073709551616", "range"),
        (DataType::Int64, "1e18", "range"),
        (DataType::Float32, "1e39", "range"),
        (DataType::Float32, "NaN", "type"),
        (DataType::Float64, "inf", "type"),
        (DataType::Float64, "1e999", "range"),
        (DataType::Bool, "2", "type"),
        (DataType::Bool, "on", "type"),
    ] {
        assert_eq!(refused(data_type, text), reason, "{data_type:?} {text:?}");
    }
}

#[test]
fn texts_are_padded_as_they_are_trimmed() {
    let text = |encoding, trim| plain(DataType::String { length: 2, encoding, trim });
    assert_eq!(whole(text(Encoding::Ascii, Trim::All), "AB"), [0x4142, 0]);
    assert_eq!(whole(text(Encoding::Ascii, Trim::Space), "ABC"), [0x4142, 0x4320]);
    assert_eq!(whole(text(Encoding::Utf8, Trim::Nul), "°C"), [0xC2B0, 0x4300]);
    assert_eq!(whole(text(Encoding::Latin1, Trim::Nul), "°C"), [0xB043, 0]);
    assert_eq!(whole(text(Encoding::Ascii, Trim::None), "ABCD"), [0x4142, 0x4344]);
    assert_eq!(whole(Decoder { order: WordOrder::Badc, ..text(Encoding::Ascii, Trim::Nul) }, "ABC"), [0x4241, 0x0043]);
    for (encoding, trim, wrong) in [
        (Encoding::Ascii, Trim::All, "ABCDE"),
        (Encoding::Ascii, Trim::All, "°C"),
        (Encoding::Latin1, Trim::All, "€"),
        (Encoding::Utf8, Trim::All, "€€"),
        (Encoding::Ascii, Trim::All, "A "),
        (Encoding::Ascii, Trim::Nul, "A\0B"),
        (Encoding::Ascii, Trim::None, "ABC"),
    ] {
        assert!(matches!(text(encoding, trim).encode(wrong), Err(Unfit::OutOfRange(_))), "{wrong:?} was taken");
    }
}

fn any_number() -> impl Strategy<Value = DataType> {
    let numbers = DataType::WORDS.map(|(_, data_type)| data_type).into_iter().filter(|data_type| data_type.is_number());
    prop::sample::select(numbers.collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn every_number_is_written_as_it_is_read_in_every_order(
        registers: [u16; 4],
        data_type in any_number(),
        order in prop::sample::select(ORDERS.to_vec()),
    ) {
        let decoder = Decoder { order, ..plain(data_type) };
        let (value, _) = decoder.decode(&registers).expect("enough registers");
        let is_finite = !matches!(value, Value::Float32(n) if !n.is_finite()) && !matches!(value, Value::Float64(n) if !n.is_finite());
        match decoder.encode(&written(&value)) {
            Ok(Encoded::Whole(back)) => prop_assert_eq!(&back[..], &registers[..usize::from(data_type.registers())]),
            other => prop_assert!(!is_finite, "{:?}: {:?}", value, other),
        }
    }

    #[test]
    fn every_part_is_written_where_it_is_read(
        registers: [u16; 4],
        other: [u16; 4],
        data_type in prop::sample::select(vec![DataType::UInt16, DataType::UInt32, DataType::UInt64]),
        order in prop::sample::select(ORDERS.to_vec()),
        ends: (u8, u8),
    ) {
        let width = data_type.unsigned_bits().expect("unsigned");
        let (first, last) = (ends.0.min(ends.1) % width, ends.0.max(ends.1) % width);
        for bits in [Bits::One(first), Bits::Range(first.min(last), first.max(last))] {
            let decoder = Decoder { order, bits: Some(bits), ..plain(data_type) };
            let (value, _) = decoder.decode(&registers).expect("enough registers");
            let Ok(Encoded::Part(part)) = decoder.encode(&written(&value)) else { panic!("a part") };
            let changed: Vec<u16> = part.iter().zip(other).map(|(masked, register)| masked.apply(register)).collect();
            prop_assert_eq!(decoder.decode(&changed).expect("enough registers").0, value);
            for ((masked, before), after) in part.iter().zip(other).zip(changed) {
                prop_assert_eq!(before & !masked.mask, after & !masked.mask, "the others are left alone");
            }
        }
    }

    #[test]
    fn a_scaled_number_that_was_read_is_written_as_the_same_registers(
        registers: [u16; 2],
        data_type in prop::sample::select(vec![DataType::UInt16, DataType::Int16, DataType::UInt32, DataType::Int32]),
        scale in prop::sample::select(vec![0.1, 0.01, 0.001, 0.5, 1.0, 2.0, 10.0, -0.1, 0.3]),
        offset in prop::sample::select(vec![0.0, -40.0, 273.15]),
    ) {
        let decoder = Decoder { scaling: Scaling::new(scale, offset), ..plain(data_type) };
        let (value, _) = decoder.decode(&registers).expect("enough registers");
        prop_assert_eq!(&whole(decoder, &written(&value))[..], &registers[..usize::from(data_type.registers())]);
    }

    #[test]
    fn a_text_is_read_back_or_refused(
        text in ".{0,12}",
        length in 1_u16..8,
        encoding in prop::sample::select(Encoding::WORDS.map(|(_, encoding)| encoding).to_vec()),
        trim in prop::sample::select(Trim::WORDS.map(|(_, trim)| trim).to_vec()),
        order in prop::sample::select(ORDERS.to_vec()),
    ) {
        let decoder = Decoder { order, ..plain(DataType::String { length, encoding, trim }) };
        if let Ok(Encoded::Whole(registers)) = decoder.encode(&text) {
            prop_assert_eq!(registers.len(), usize::from(length));
            prop_assert_eq!(decoder.decode(&registers).expect("enough registers").0, Value::from(text.as_str()));
        }
    }

    #[test]
    fn no_text_can_make_it_panic(text: String, data_type in any_number(), first: u8, last: u8, scale: f64, offset: f64) {
        for bits in [None, Some(Bits::One(first)), Some(Bits::Range(first, last))] {
            drop(Decoder { bits, scaling: Scaling::new(scale, offset), ..plain(data_type) }.encode(&text));
        }
    }
}
