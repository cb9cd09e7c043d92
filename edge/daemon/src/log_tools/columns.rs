//! Events as a Parquet file: a row an event.

use std::io::Write;
use std::sync::Arc;

use asset_stream::Event;
use edge_buffer::Stored;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

/// What the columns are. `value` is VALUE as JSON text, exact; `number` the same where it is a number; what is no event of ours is `value` alone.
const SCHEMA: &str = "
message event {
  required binary asset (string);
  required int64 seq (integer(64,false));
  required int64 asset_seq (integer(64,false));
  required int64 epoch (integer(64,false));
  required int64 time (timestamp(millis,true));
  optional binary id (string);
  optional binary type (string);
  optional binary tag (string);
  required binary value (string);
  optional double number;
  optional binary quality (string);
  optional binary attributes (json);
}";

/// A row group ends with so many rows …
const ROWS: usize = 100_000;
/// … or so many bytes of events: what is held in memory.
const BYTES: usize = 32 << 20;

pub(crate) struct Columns<W: Write + Send> {
    file: SerializedFileWriter<W>,
    epoch: u64,
    rows: Vec<Row>,
    bytes: usize,
}

struct Row {
    asset: ByteArray,
    seq: u64,
    asset_seq: u64,
    time: i64,
    id: Option<ByteArray>,
    kind: Option<ByteArray>,
    tag: Option<ByteArray>,
    value: ByteArray,
    number: Option<f64>,
    quality: Option<ByteArray>,
    attributes: Option<ByteArray>,
}

impl Row {
    fn new(stored: &Stored) -> Self {
        let mut row = Self {
            asset: text(&stored.key),
            seq: stored.sequence,
            asset_seq: stored.key_sequence,
            time: stored.timestamp,
            id: None,
            kind: None,
            tag: None,
            value: text(&String::from_utf8_lossy(&stored.value)),
            number: None,
            quality: None,
            attributes: None,
        };
        if let Ok(event) = Event::decode(&stored.value) {
            row.id = Some(text(&event.id));
            row.kind = Some(text(event.kind.as_str()));
            row.tag = Some(text(&event.tag));
            row.value = text(&event.value.to_string());
            row.number = event.value.as_f64();
            row.quality = event.attributes.get("quality").map(|quality| text(quality));
            row.attributes = serde_json::to_string(&event.attributes).ok().map(|attributes| text(&attributes));
        }
        row
    }
}

fn text(text: &str) -> ByteArray {
    ByteArray::from(text)
}

impl<W: Write + Send> Columns<W> {
    pub(crate) fn new(out: W, epoch: u64) -> Result<Self> {
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?)).build();
        let file = SerializedFileWriter::new(out, Arc::new(parse_message_type(SCHEMA)?), Arc::new(properties))?;
        Ok(Self { file, epoch, rows: Vec::new(), bytes: 0 })
    }

    pub(crate) fn write(&mut self, stored: &Stored) -> Result<()> {
        self.rows.push(Row::new(stored));
        self.bytes += stored.value.len();
        if self.rows.len() >= ROWS || self.bytes >= BYTES { self.end_group() } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        self.end_group()?;
        self.file.close().map(drop)
    }

    fn end_group(&mut self) -> Result<()> {
        let (rows, epoch) = (std::mem::take(&mut self.rows), self.epoch);
        self.bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        required::<ByteArrayType, _>(&mut group, rows.iter().map(|row| row.asset.clone()))?;
        required::<Int64Type, _>(&mut group, rows.iter().map(|row| row.seq as i64))?;
        required::<Int64Type, _>(&mut group, rows.iter().map(|row| row.asset_seq as i64))?;
        required::<Int64Type, _>(&mut group, rows.iter().map(|_| epoch as i64))?;
        required::<Int64Type, _>(&mut group, rows.iter().map(|row| row.time))?;
        optional::<ByteArrayType, _>(&mut group, rows.iter().map(|row| row.id.clone()))?;
        optional::<ByteArrayType, _>(&mut group, rows.iter().map(|row| row.kind.clone()))?;
        optional::<ByteArrayType, _>(&mut group, rows.iter().map(|row| row.tag.clone()))?;
        required::<ByteArrayType, _>(&mut group, rows.iter().map(|row| row.value.clone()))?;
        optional::<DoubleType, _>(&mut group, rows.iter().map(|row| row.number))?;
        optional::<ByteArrayType, _>(&mut group, rows.iter().map(|row| row.quality.clone()))?;
        optional::<ByteArrayType, _>(&mut group, rows.iter().map(|row| row.attributes.clone()))?;
        group.close().map(drop)
    }
}

/// Writes the next column.
fn required<T: DataType, W: Write + Send>(group: &mut SerializedRowGroupWriter<'_, W>, values: impl Iterator<Item = T::T>) -> Result<()> {
    let values: Vec<T::T> = values.collect();
    column::<T, W>(group, &values, None)
}

/// Writes the next column, some values of which are absent.
fn optional<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: impl Iterator<Item = Option<T::T>>,
) -> Result<()> {
    let values: Vec<Option<T::T>> = values.collect();
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    column::<T, W>(group, &values, Some(&levels))
}

fn column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<()> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, levels, None)?;
        column.close()?;
    }
    Ok(())
}
