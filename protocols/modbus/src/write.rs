//! What is written, and with which function. Pure.

use std::borrow::Cow;

use tokio_modbus::{Request, Response};

use crate::config::Variable;
use crate::decode::Decoder;
use crate::encode::{Encoded, Masked, Unfit};
use crate::types::{Bits, DataType, Span};

/// The functions that a device is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Functions {
    /// For a single coil or register.
    pub one: One,
    /// For some bits of a register.
    pub bits: SomeBits,
}

/// With which function one coil or register is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum One {
    /// 5 for a coil, 6 for a register.
    #[default]
    Single,
    /// 15 for a coil, 16 for a register, as for several: some devices know only these.
    Multiple,
}

impl One {
    /// The words of a device file.
    pub const WORDS: [(&'static str, Self); 2] = [("single", Self::Single), ("multiple", Self::Multiple)];
}

/// How some bits of a register are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SomeBits {
    /// With function 22: the device itself keeps the other bits.
    #[default]
    Mask,
    /// The register is read and written back. A bit that somebody else, the device itself for one, changes in between is overwritten: so this
    /// is done only where the device file asks for it.
    ReadModifyWrite,
}

impl SomeBits {
    /// The words of a device file.
    pub const WORDS: [(&'static str, Self); 2] = [("mask", Self::Mask), ("read_modify_write", Self::ReadModifyWrite)];
}

/// The most registers that a request can carry to a device.
pub(crate) const MOST_REGISTERS: u16 = 123;

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// Everything that is needed is known.
    Ready(Ready),
    /// The registers are read first.
    Modify {
        /// Which.
        span: Span,
        /// What changes in each of them.
        part: Vec<Masked>,
        one: One,
    },
}

/// One request that writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Where.
    pub(crate) span: Span,
    what: What,
    one: One,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Coil(bool),
    Registers(Vec<u16>),
    Mask(Masked),
}

impl Write {
    /// What writes `text` into a variable that can be written.
    pub(crate) fn new(variable: &Variable, functions: Functions, text: &str) -> Result<Self, Unfit> {
        let (span, one) = (variable.span, functions.one);
        let ready = |span, what| Self::Ready(Ready { span, what, one });
        if span.table().holds_bits() {
            return Ok(ready(span, What::Coil(Decoder::encode_bit(text)?)));
        }
        let part = match variable.decoder.encode(text)? {
            Encoded::Whole(registers) => return Ok(ready(span, What::Registers(registers))),
            Encoded::Part(part) => part,
        };
        // Registers of which no bit changes are not touched.
        let touched = |masked: &Masked| masked.mask != 0;
        let (first, last) = (part.iter().position(touched).unwrap_or(0), part.iter().rposition(touched).unwrap_or(0));
        let part = part.get(first..=last).unwrap_or_default().to_vec();
        let shortened = || Span::new(span.table(), span.start().checked_add(first as u16)?, part.len() as u16);
        // It lies within the variable's own span.
        let span = shortened().unwrap_or(span);
        Ok(match (functions.bits, part.as_slice()) {
            (SomeBits::Mask, [masked]) => ready(span, What::Mask(*masked)),
            // A config for masks has only variables whose bits are in one register.
            _ => Self::Modify { span, part, one },
        })
    }

    /// Where.
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Ready(ready) => ready.span,
            Self::Modify { span, .. } => *span,
        }
    }

    /// The request, once the registers were read if need be; `None` if they are needed and were not.
    pub(crate) fn with(&self, read: Option<&[u16]>) -> Option<Ready> {
        match self {
            Self::Ready(ready) => Some(ready.clone()),
            Self::Modify { span, part, one } => {
                let read = read.filter(|read| read.len() == part.len())?;
                let registers = part.iter().zip(read).map(|(masked, register)| masked.apply(*register)).collect();
                Some(Ready { span: *span, what: What::Registers(registers), one: *one })
            }
        }
    }
}

/// The bits of a variable that stand in two registers or more: function 22 changes one.
pub(crate) fn is_over_registers(decoder: &Decoder) -> bool {
    match decoder.bits {
        Some(Bits::Range(first, last)) => first / 16 != last / 16,
        Some(Bits::One(_)) | None => false,
    }
}

/// Whether a text of this type is too long for one request.
pub(crate) fn is_too_long(data_type: DataType) -> bool {
    data_type.registers() > MOST_REGISTERS
}

impl Ready {
    /// The function's code.
    pub(crate) fn function(&self) -> u8 {
        self.request().function_code().value()
    }

    /// What goes to the device.
    pub(crate) fn request(&self) -> Request<'_> {
        let start = self.span.start();
        match (&self.what, self.one) {
            (What::Coil(on), One::Single) => Request::WriteSingleCoil(start, *on),
            (What::Coil(on), One::Multiple) => Request::WriteMultipleCoils(start, Cow::Owned(vec![*on])),
            (What::Registers(registers), one) => match (registers.as_slice(), one) {
                ([register], One::Single) => Request::WriteSingleRegister(start, *register),
                (registers, _) => Request::WriteMultipleRegisters(start, Cow::Borrowed(registers)),
            },
            // The device keeps what is set in the first word, and sets what is set in the second.
            (What::Mask(masked), _) => Request::MaskWriteRegister(start, !masked.mask, masked.bits),
        }
    }

    /// Whether a device that has done this answers so: it says back what it was asked for.
    pub(crate) fn is_confirmed_by(&self, response: &Response) -> bool {
        match (self.request(), response) {
            (Request::WriteSingleCoil(start, on), Response::WriteSingleCoil(at, is)) => (start, on) == (*at, *is),
            (Request::WriteMultipleCoils(start, coils), Response::WriteMultipleCoils(at, count)) => {
                (start, coils.len()) == (*at, usize::from(*count))
            }
            (Request::WriteSingleRegister(start, register), Response::WriteSingleRegister(at, is)) => (start, register) == (*at, *is),
            (Request::WriteMultipleRegisters(start, registers), Response::WriteMultipleRegisters(at, count)) => {
                (start, registers.len()) == (*at, usize::from(*count))
            }
            (Request::MaskWriteRegister(start, and, or), Response::MaskWriteRegister(at, kept, set)) => {
                (start, and, or) == (*at, *kept, *set)
            }
            _ => false,
        }
    }

    /// Bytes under way for it, both ways: at most so many.
    pub(crate) fn bytes(&self) -> u32 {
        let registers = if self.span.table().holds_bits() { 1 } else { u32::from(self.span.count()) };
        9 + registers * 2 + 10
    }
}

#[cfg(test)]
mod tests {
    use super::{Functions, One, Ready, SomeBits, Write};
    use crate::config::Variable;
    use crate::decode::Decoder;
    use crate::types::{Bits, DataType, Report, Span, Table, WordOrder};
    use asset_stream::Kind;
    use asset_stream::device_file::Access;
    use tokio_modbus::{Request, Response};

    fn variable(table: Table, data_type: DataType, bits: Option<Bits>) -> Variable {
        let count = if table.holds_bits() { 1 } else { data_type.registers() };
        Variable {
            id: "v".into(),
            tag: "v".into(),
            kind: Kind::Events,
            span: Span::new(table, 10, count).expect("a span"),
            decoder: Decoder { data_type, order: WordOrder::Abcd, bits, scaling: None },
            unit: None,
            deadband: 0.0,
            report: Report::Change,
            access: Access::ReadWrite,
            group: 0,
        }
    }

    fn ready(variable: &Variable, functions: Functions, text: &str) -> Ready {
        Write::new(variable, functions, text).expect("it fits").with(None).expect("nothing is to be read")
    }

    #[test]
    fn each_kind_of_variable_has_its_function() {
        let single = Functions::default();
        let multiple = Functions { one: One::Multiple, ..single };
        let coil = variable(Table::Coils, DataType::Bool, None);
        let one = variable(Table::HoldingRegisters, DataType::Int16, None);
        let two = variable(Table::HoldingRegisters, DataType::UInt32, None);
        let bit = variable(Table::HoldingRegisters, DataType::UInt16, Some(Bits::One(3)));
        let upper = variable(Table::HoldingRegisters, DataType::UInt32, Some(Bits::One(3)));
        assert_eq!(ready(&coil, single, "true").request(), Request::WriteSingleCoil(10, true));
        assert_eq!(ready(&coil, multiple, "true").request(), Request::WriteMultipleCoils(10, vec![true].into()));
        assert_eq!(ready(&one, single, "-1").request(), Request::WriteSingleRegister(10, 0xFFFF));
        assert_eq!(ready(&one, multiple, "-1").request(), Request::WriteMultipleRegisters(10, vec![0xFFFF].into()));
        assert_eq!(ready(&two, single, "65538").request(), Request::WriteMultipleRegisters(10, vec![1, 2].into()));
        assert_eq!(ready(&bit, single, "1").request(), Request::MaskWriteRegister(10, !8, 8));
        assert_eq!(ready(&upper, single, "0").request(), Request::MaskWriteRegister(11, !8, 0), "only the register that has the bit");
        assert_eq!([&coil, &one, &two, &bit].map(|v| ready(v, single, "1").function()), [5, 6, 16, 22]);
    }

    #[test]
    fn a_register_is_read_and_written_back_only_where_the_file_asks_for_it() {
        let functions = Functions { bits: SomeBits::ReadModifyWrite, ..Functions::default() };
        let bit = variable(Table::HoldingRegisters, DataType::UInt32, Some(Bits::One(3)));
        let write = Write::new(&bit, functions, "true").expect("it fits");
        assert_eq!((write.span(), write.with(None)), (Span::new(Table::HoldingRegisters, 11, 1).expect("a span"), None));
        let ready = write.with(Some(&[0xF0F0])).expect("it was read");
        assert_eq!(ready.request(), Request::WriteSingleRegister(11, 0xF0F8));
        let both = variable(Table::HoldingRegisters, DataType::UInt32, Some(Bits::Range(12, 19)));
        let ready = Write::new(&both, functions, "255").expect("it fits").with(Some(&[0, 0])).expect("it was read");
        assert_eq!(ready.request(), Request::WriteMultipleRegisters(10, vec![0x000F, 0xF000].into()));
    }

    #[test]
    fn only_what_says_back_the_request_confirms_it() {
        let one = ready(&variable(Table::HoldingRegisters, DataType::Int16, None), Functions::default(), "7");
        assert!(one.is_confirmed_by(&Response::WriteSingleRegister(10, 7)));
        for wrong in [
            Response::WriteSingleRegister(11, 7),
            Response::WriteSingleRegister(10, 8),
            Response::WriteMultipleRegisters(10, 1),
            Response::ReadHoldingRegisters(vec![7]),
        ] {
            assert!(!one.is_confirmed_by(&wrong), "{wrong:?}");
        }
        let mask = variable(Table::HoldingRegisters, DataType::UInt16, Some(Bits::One(0)));
        let mask = ready(&mask, Functions::default(), "1");
        assert!(
            mask.is_confirmed_by(&Response::MaskWriteRegister(10, 0xFFFE, 1))
                && !mask.is_confirmed_by(&Response::MaskWriteRegister(10, 0xFFFF, 1))
        );
        let two = ready(&variable(Table::HoldingRegisters, DataType::UInt32, None), Functions::default(), "7");
        assert!(
            two.is_confirmed_by(&Response::WriteMultipleRegisters(10, 2)) && !two.is_confirmed_by(&Response::WriteMultipleRegisters(10, 1))
        );
    }
}
