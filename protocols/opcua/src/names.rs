//! Names for what a server has: short, and unlike each other.

use std::collections::{HashMap, HashSet};

use tracing::info;

/// A name for each path of browse names, unlike any other and those `taken`: of its last part; where several have the same, of as much of
/// the way to it as tells them apart; with a number where even that is the same. `form` makes a name of the end of a path. The same paths
/// give the same names each time.
pub(crate) fn choose_names(paths: &[&[String]], taken: &HashSet<String>, form: impl Fn(&[String]) -> String) -> Vec<String> {
    let longest = paths.iter().map(|path| path.len()).max().unwrap_or(1);
    let name = |path: &[String], parts: usize| form(&path[path.len().saturating_sub(parts)..]);
    let mut parts = vec![1; paths.len()];
    for _ in 1..longest {
        let mut uses: HashMap<String, usize> = HashMap::new();
        for (path, parts) in paths.iter().zip(&parts) {
            *uses.entry(name(path, *parts)).or_default() += 1;
        }
        for (path, parts) in paths.iter().zip(&mut parts) {
            let name = name(path, *parts);
            if *parts < path.len() && (taken.contains(&name) || uses.get(&name).is_some_and(|n| *n > 1)) {
                *parts += 1;
            }
        }
    }
    let mut given = taken.clone();
    let mut names = Vec::with_capacity(paths.len());
    for (path, parts) in paths.iter().zip(parts) {
        let wanted = name(path, parts);
        let mut chosen = wanted.clone();
        let mut number = 2;
        while !given.insert(chosen.clone()) {
            chosen = format!("{wanted}_{number}");
            number += 1;
        }
        if chosen != name(path, 1) {
            info!(node = %path.join("/"), name = %chosen, "a node is offered under a longer name, as its own is not unique");
        }
        names.push(chosen);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::choose_names;
    use asset_stream::command::method_name;
    use std::collections::HashSet;

    fn names(paths: &[&str], taken: &[&str]) -> Vec<String> {
        let paths: Vec<Vec<String>> = paths.iter().map(|path| path.split('/').map(str::to_owned).collect()).collect();
        let paths: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
        let form = |path: &[String]| method_name(&path.join("_")).unwrap_or_else(|| "Method".to_owned());
        choose_names(&paths, &taken.iter().map(|name| (*name).to_owned()).collect::<HashSet<_>>(), form)
    }

    #[test]
    fn equal_names_are_told_apart_by_the_way_to_them() {
        assert_eq!(names(&["Start", "Stop"], &[]), ["Start", "Stop"]);
        assert_eq!(names(&["Pump/Start", "Fan/Start", "Stop"], &[]), ["Pump_Start", "Fan_Start", "Stop"]);
        assert_eq!(names(&["A/Pump/Start", "B/Pump/Start"], &[]), ["A_Pump_Start", "B_Pump_Start"]);
        assert_eq!(names(&["Pump/speed"], &["speed"]), ["Pump_speed"]);
        assert_eq!(names(&["启动", "停止"], &[]), ["Method", "Method_2"]);
        assert_eq!(names(&["Start", "Start!", "speed"], &["speed"]), ["Start", "Start_2", "speed_2"]);
    }
}
