//! The values of a TOML file.

use toml::de::{DeTable, DeValue};

use super::scalars::{Role, Scalar, Scalars};

pub(super) fn scalars(text: &str) -> Scalars {
    let (tree, problems) = DeTable::parse_recoverable(text);
    let mut found = Vec::new();
    in_table(tree.get_ref(), &[], &mut found);
    // A table may be written in several places.
    found.sort_by_key(|scalar| scalar.span.start);
    // A key of several tables, as in [a.b] and [a.c], is known by its first place alone; the others stay as they are written.
    let not_toml = (!problems.is_empty()).then_some("it is not TOML");
    // What looks like a key with its secret may stand in one.
    let is_long = |scalar: &Scalar| text.get(scalar.span.clone()).is_none_or(|text| text.contains('\n'));
    let has_long = found.iter().any(is_long).then_some("it has texts over several lines");
    Scalars { unclear: not_toml.or(has_long), scalars: found }
}

fn in_table(table: &DeTable<'_>, path: &[String], found: &mut Vec<Scalar>) {
    for (key, value) in table {
        let name = key.get_ref().to_string();
        found.push(Scalar { path: path.to_vec(), role: Role::Key, text: name.clone(), span: key.span() });
        in_value(value.get_ref(), value.span(), &[path, &[name]].concat(), found);
    }
}

fn in_value(value: &DeValue<'_>, span: std::ops::Range<usize>, path: &[String], found: &mut Vec<Scalar>) {
    let text = match value {
        DeValue::Table(table) => return in_table(table, path, found),
        DeValue::Array(values) => return values.iter().for_each(|value| in_value(value.get_ref(), value.span(), path, found)),
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(time) => time.to_string(),
    };
    found.push(Scalar { path: path.to_vec(), role: Role::Value, text, span });
}
