//! Reads and judges a schema file.

use super::{ASSET, ATTRIBUTE, Allowed, Level, Schema};
use crate::device_file::validate_item_name;
use crate::document::{Node, Section};

/// `None` if not even a path could be made of it; other problems are only recorded.
pub(super) fn schema(mut root: Section<'_>) -> Option<Schema> {
    let file = root.place("").file;
    let structure = structure(&mut root);
    let template = root.required::<String>("uns_template");
    let (structure, template) = (structure?, template?);
    let template = template.as_str();
    let Some(separator) = template.chars().find(|c| !c.is_alphanumeric() && *c != '_') else {
        root.problem("uns_template", format!("`{template}` has no separator; write e.g. `area.{ASSET}.{ATTRIBUTE}`"));
        return None;
    };
    let fields: Vec<&str> = template.split(separator).collect();
    if fields.last() != Some(&ATTRIBUTE) {
        root.problem("uns_template", format!("its last field must be `{ATTRIBUTE}`, which stands for the data item"));
    } else if !fields[..fields.len() - 1].ends_with(&[ASSET]) {
        root.problem("uns_template", format!("the field before `{ATTRIBUTE}` must be `{ASSET}`, which is the device"));
    }
    let mut levels = Vec::new();
    let mut last = None;
    for field in fields {
        let Some(at) = structure.iter().position(|level| level.name == field) else {
            root.problem("uns_template", format!("`{field}` is no level of namespace_structure"));
            continue;
        };
        if last.is_some_and(|last| at <= last) {
            root.problem("uns_template", format!("`{field}` is out of order; the fields keep the order of namespace_structure, each once"));
        }
        last = Some(at);
        if field != ATTRIBUTE {
            levels.push(structure[at].clone());
        }
    }
    for level in &levels {
        check_level(level, separator, &root);
    }
    root.finish();
    Some(Schema { levels, separator, file })
}

fn check_level(level: &Level, separator: char, root: &Section<'_>) {
    let fixed: &[String] = match &level.allowed {
        Allowed::Any => &[],
        Allowed::Constant(constant) => std::slice::from_ref(constant),
        Allowed::Choices(choices) => choices,
    };
    for value in fixed.iter().filter(|value| value.contains(separator)) {
        root.problem(
            "namespace_structure",
            format!("`{value}` of the level `{}` contains `{separator}`, which separates the levels", level.name),
        );
    }
    if level.name == ASSET && matches!(level.allowed, Allowed::Constant(_)) {
        root.problem("namespace_structure", format!("`{ASSET}` cannot be a constant: it tells the devices apart; write `{ASSET}: ANY`"));
    }
}

fn structure(root: &mut Section<'_>) -> Option<Vec<Level>> {
    let Some(node) = root.node("namespace_structure") else {
        root.problem("namespace_structure", "`namespace_structure` is missing or empty; write a list such as `- area: ANY`");
        return None;
    };
    let Some(items) = node.items() else {
        node.problem(format!("expected a list such as `- area: ANY`, found {}", node.found()));
        return None;
    };
    let mut levels: Vec<Level> = Vec::new();
    for item in items {
        let Some((level, at)) = level(&item) else { continue };
        if levels.iter().any(|other| other.name == level.name) {
            at.problem(&level.name, format!("the level `{}` is there twice", level.name));
        } else {
            levels.push(level);
        }
    }
    Some(levels)
}

/// One item: a mapping with a single key.
fn level<'d>(item: &Node<'d>) -> Option<(Level, Section<'d>)> {
    let Some(mut section) = item.section() else {
        item.problem(format!("expected one level such as `area: ANY`, found {}", item.found()));
        return None;
    };
    let names: Vec<&str> = section.keys().collect();
    let [name] = names[..] else {
        item.problem(format!("expected one level such as `area: ANY`, found {} keys; begin each level with `- `", names.len()));
        return None;
    };
    if let Err(message) = validate_item_name(name) {
        section.problem(name, format!("the level's name {message}"));
    }
    let Some(node) = section.node(name) else {
        section.problem(name, "has no value; write ANY, a constant or a list of choices");
        return None;
    };
    let allowed = if node.items().is_some() {
        let choices = section.required::<Vec<String>>(name)?;
        if choices.is_empty() {
            section.problem(name, "the list of choices is empty");
        }
        Allowed::Choices(choices)
    } else {
        match section.required::<String>(name)? {
            any if any == "ANY" => Allowed::Any,
            constant => Allowed::Constant(constant),
        }
    };
    let fixed: &[String] = match &allowed {
        Allowed::Any => &[],
        Allowed::Constant(constant) => std::slice::from_ref(constant),
        Allowed::Choices(choices) => choices,
    };
    if fixed.iter().any(|value| value.trim() != value || value.is_empty() || value.chars().any(char::is_control)) {
        section.problem(name, "a value is empty, has a space at an end or a control character");
    }
    Some((Level { name: name.to_owned(), allowed }, section))
}
