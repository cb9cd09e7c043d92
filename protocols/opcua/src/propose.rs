//! A device file for what was browsed: a beginning that works, for a person to prune.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

use asset_stream::device_file::{Access, MAX_NAME, validate_item_name};

use crate::browse::{Browsed, Node};
use crate::names::choose_names;
use crate::nodes::Address;

/// The parts of a device file that follow `server`: every variable, and where the methods are. Indented as below `connector:`.
pub fn propose(browsed: &Browsed, start: &str) -> String {
    let (variables, unnamed): (Vec<&Node>, Vec<&Node>) =
        browsed.nodes.iter().filter(|node| node.variable.is_some()).partition(|node| Address::node_id(&node.node_id).is_ok());
    let paths: Vec<Vec<String>> = variables.iter().map(|node| node.path.iter().map(|step| plain(step)).collect()).collect();
    let paths: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
    let names = choose_names(&paths, &HashSet::new(), item_name);
    let mut text = String::new();
    if !variables.is_empty() {
        text.push_str("      variables:\n");
    }
    for ((name, node), path) in names.iter().zip(&variables).zip(&paths) {
        let Some(variable) = &node.variable else { continue };
        let access = if variable.access() == Access::ReadWrite { ", access_level: rw" } else { "" };
        let (name, id, tag) = (quoted(name), quoted(&node.node_id), quoted(path.last().map_or("", String::as_str)));
        // Writing into a string cannot fail.
        writeln!(text, "        {name}: {{node_id: {id}, tag: {tag}{access}}}    # {}", variable.data_type).ok();
    }
    if !unnamed.is_empty() {
        writeln!(text, "      # Left out: {} variables whose node ids have line breaks, which no device file can say.", unnamed.len()).ok();
    }
    let objects = with_methods(browsed, start);
    if !objects.is_empty() {
        text.push_str("      methods:\n");
    }
    let paths: Vec<&[String]> = objects.keys().map(Vec::as_slice).collect();
    let taken = names.into_iter().collect();
    for (name, (_, id)) in choose_names(&paths, &taken, item_name).iter().zip(&objects) {
        writeln!(text, "        {}: {{node_id: {}}}", quoted(name), quoted(id)).ok();
    }
    text
}

/// The objects that methods are called on, by path. Those of the standard's own namespace are no operations of a machine.
fn with_methods<'b>(browsed: &'b Browsed, start: &'b str) -> BTreeMap<Vec<String>, &'b str> {
    let ids: HashMap<&[String], &str> = browsed.nodes.iter().map(|node| (node.path.as_slice(), node.node_id.as_str())).collect();
    let methods = browsed.nodes.iter().filter(|node| node.class == "Method" && node.node_id.starts_with("ns="));
    let object = |node: &'b Node| {
        let path = &node.path[..node.path.len().saturating_sub(1)];
        let name = if path.is_empty() { vec!["methods".to_owned()] } else { path.iter().map(|step| plain(step)).collect() };
        (name, ids.get(path).copied().unwrap_or(start))
    };
    methods.map(object).collect()
}

/// A browse name without its namespace, `/` and `&` as they are.
fn plain(step: &str) -> String {
    let name = step.split_once(':').map_or(step, |(_, name)| name);
    name.replace("&/", "/").replace("&&", "&")
}

/// A name that an item can have.
fn item_name(path: &[String]) -> String {
    let clean: String = path.join("_").chars().map(|c| if c.is_control() || c == '|' { '_' } else { c }).collect();
    let mut name = clean.trim().to_owned();
    // A number may have to follow.
    while name.len() > MAX_NAME - 8 {
        name.pop();
    }
    let name = name.trim_end();
    if validate_item_name(name).is_ok() { name.to_owned() } else { format!("{name}_value").trim_start_matches('_').to_owned() }
}

/// A YAML text: JSON's strings are YAML's, and `${` would be taken for a variable of the environment.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace("${", "$${")).to_string()
}

#[cfg(test)]
mod tests {
    use super::{item_name, propose};
    use crate::browse::{Browsed, Node, Variable};
    use asset_stream::document::{Document, Environment, Problems};

    fn variable(path: &[&str], writable: bool) -> Node {
        let path: Vec<String> = path.iter().map(|step| (*step).to_owned()).collect();
        let variable = Variable { data_type: "Double".into(), value: None, status: None, writable };
        Node { node_id: format!("ns=2;s={}", path.join(".")), path, class: "Variable", variable: Some(variable) }
    }

    #[test]
    fn whatever_a_server_calls_its_nodes_the_proposed_file_is_valid() {
        let nodes = vec![
            variable(&["2:Oven", "2:Temperature"], false),
            variable(&["2:Press", "2:Temperature"], true),
            variable(&["2:avail"], false),
            variable(&["2:Stop_CMD"], false),
            variable(&["2:a|b ${HOME}: \"c\" #"], false),
            variable(&["2:broken\nline"], false),
            variable(&["2:x&/y&&z"], false),
            variable(&[&format!("2:{}", "ü".repeat(300))], false),
            variable(&["2:"], false),
            Node { node_id: "ns=2;i=5".into(), path: vec!["2:Start".into()], class: "Method", variable: None },
        ];
        let proposed = propose(&Browsed { nodes, is_cut: false }, "i=85");
        let file = format!("connector:\n      server: {{uri: \"opc.tcp://h:4840\"}}\n{proposed}");
        let (problems, environment) = (Problems::new(), Environment::empty());
        let document = Document::parse("d.yaml", file.as_bytes(), &problems).expect("YAML");
        let mut root = document.root(&environment, &problems);
        let config = root.required_section("connector").and_then(crate::parse);
        root.finish();
        let told: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(told, Vec::<String>::new(), "{file}");
        let config = config.expect("no problems");
        let names: Vec<&str> = config.variables.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names[..4], ["Oven_Temperature", "Press_Temperature", "avail_value", "Stop_CMD_value"]);
        assert_eq!(config.variables[4].tag, "a|b ${HOME}: \"c\" #", "what the server calls it, unchanged");
        assert_eq!(config.variables[5].name, "x/y&z");
        assert_eq!((config.variables.len(), config.methods.len()), (8, 1));
    }

    #[test]
    fn an_item_without_any_name_gets_one() {
        assert_eq!(item_name(&[String::new()]), "value");
    }
}
