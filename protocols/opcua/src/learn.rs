//! What the gateway learns of a server for commands: what its methods are called with, as what and whether its variables are written.

use asset_stream::device_file::Access;
use opcua::client::Session;
use opcua::types::{AttributeId, DataValue, NodeId, ReadValueId, StatusCode, TimestampsToReturn, Variant};

use crate::arguments::Declared;
use crate::device::{Device, Halt, tolerate};
use crate::items::Item;
use crate::limits::{self, Limits};
use crate::meaning::meanings_of;
use crate::methods::Method;
use crate::offer::{Offer, Offered, Writing};

/// The bit of an access level that says that the present value can be written.
const WRITE: u8 = 0x02;

impl Device {
    /// Tells commands what is known.
    pub(crate) fn lay_out(&self) {
        let place = |item: &Item| Some((item.data.id.to_string(), item.place()?));
        self.desk.learn(Offer { methods: self.offered.clone(), places: self.items.iter().filter_map(place).collect() });
    }

    /// Reads as what the variables are written that commands may write.
    pub(crate) async fn understand_writing(&mut self, session: &Session, places: &[usize]) -> Result<(), Halt> {
        let is_written = |place: &&usize| self.items[**place].access == Access::ReadWrite;
        let (written, nodes): (Vec<usize>, Vec<NodeId>) =
            places.iter().filter(is_written).filter_map(|place| Some((*place, self.items[*place].node.clone()?))).unzip();
        let read = tolerate("reading how variables are written", read_writing(session, &self.limits, &nodes).await)?;
        for (place, mut writing) in written.iter().zip(read.unwrap_or_default()) {
            let item = &mut self.items[*place];
            writing.declared.meaning = item.meaning.clone();
            item.writing = Some(writing);
        }
        Ok(())
    }

    /// Reads what the methods' arguments mean.
    pub(crate) async fn understand_methods(&self, session: &Session, methods: &[Method]) -> Result<Option<Vec<Offered>>, Halt> {
        let all = |method: &Method| method.inputs.iter().chain(&method.outputs).map(|p| Some(p.data_type.clone())).collect::<Vec<_>>();
        let data_types: Vec<Option<NodeId>> = methods.iter().flat_map(all).collect();
        let meanings = tolerate("reading the data types of arguments", meanings_of(session, &self.limits, &data_types).await)?;
        let Some(meanings) = meanings else { return Ok(None) };
        let mut meanings = meanings.into_iter();
        let offered = |method: &Method| {
            let declared =
                |rank: i32, meanings: &mut dyn Iterator<Item = _>| Declared { meaning: meanings.next().unwrap_or_default(), rank };
            let inputs = method.inputs.iter().map(|input| declared(input.value_rank, &mut meanings)).collect();
            let outputs = meanings.by_ref().take(method.outputs.len()).collect();
            Offered { method: method.clone(), inputs, outputs }
        };
        Ok(Some(methods.iter().map(offered).collect()))
    }
}

/// Reads it: as many answers as nodes, in order. What the values mean is for the caller to add.
async fn read_writing(session: &Session, limits: &Limits, nodes: &[NodeId]) -> Result<Vec<Writing>, StatusCode> {
    let attributes = [AttributeId::ValueRank, AttributeId::AccessLevel, AttributeId::UserAccessLevel];
    let questions: Vec<_> = nodes.iter().flat_map(|id| attributes.map(|attribute| ReadValueId::new(id.clone(), attribute))).collect();
    let answers = limits::read(session, limits, &questions, TimestampsToReturn::Neither).await?;
    Ok(answers.chunks(attributes.len()).map(writing).collect())
}

fn writing(answers: &[DataValue]) -> Writing {
    let [rank, level, user_level] = answers else { return Writing::default() };
    let denies = |answer: &DataValue| matches!(answer.value, Some(Variant::Byte(level)) if level & WRITE == 0);
    let forbidden = if denies(level) {
        Some("the server lets nobody write it (AccessLevel)")
    } else if denies(user_level) {
        Some("the server does not let this login write it (UserAccessLevel)")
    } else {
        None
    };
    let rank = match rank.value {
        Some(Variant::Int32(rank)) => rank,
        _ => Declared::default().rank,
    };
    Writing { declared: Declared { rank, ..Declared::default() }, forbidden }
}
