//! The words that stand for values, and the notations of addresses and bits.

use asset_stream::Kind;
use asset_stream::document::{FromNode, Node};

use crate::config::{Framing, Parity};
use crate::types::{DataType, Encoding, Report, Table, Trim, WordOrder, parse_reference};
use crate::write::{One, SomeBits};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinWord {
    Neighbours,
    Never,
}

#[derive(Clone, Copy)]
pub(super) enum Connection {
    Shared,
    Own,
}

pub(super) struct KindWord(pub(super) Kind);
pub(super) struct Reference(pub(super) Table, pub(super) u16);
pub(super) struct Range(pub(super) u8, pub(super) u8);

impl FromNode for Reference {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        parse_reference(&node.text()?).map(|(table, start)| Self(table, start))
    }
}

impl FromNode for Range {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        let text = node.text()?;
        let ends = text.split_once('-').map(|(first, last)| (first.trim().parse(), last.trim().parse()));
        match ends {
            Some((Ok(first), Ok(last))) if first <= last => Ok(Self(first, last)),
            _ => Err(format!("expected the first and the last bit, e.g. `4-7`, found {}", node.found())),
        }
    }
}

macro_rules! words {
    ($($of:ty => $words:expr),+ $(,)?) => {$(
        impl FromNode for $of {
            fn from_node(node: &Node<'_>) -> Result<Self, String> {
                node.one_of($words)
            }
        }
    )+};
}
words! {
    DataType => DataType::WORDS,
    WordOrder => WordOrder::WORDS,
    Encoding => Encoding::WORDS,
    Trim => Trim::WORDS,
    Report => Report::WORDS,
    One => One::WORDS,
    SomeBits => SomeBits::WORDS,
    Framing => [("tcp", Framing::Tcp), ("rtu", Framing::Rtu)],
    Parity => [("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)],
    Connection => [("shared", Connection::Shared), ("own", Connection::Own)],
    JoinWord => [("neighbours", JoinWord::Neighbours), ("never", JoinWord::Never)],
    KindWord => [("Samples", Self(Kind::Samples)), ("Events", Self(Kind::Events))],
}
