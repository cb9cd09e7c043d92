use super::{Document, Environment, FromNode, MAX_BYTES, Node, Problems, Section};

/// Reads a text with `read`, and gives back what it returned and all problems.
fn read<T>(text: impl AsRef<[u8]>, read: impl FnOnce(Section<'_>) -> T) -> (Option<T>, Vec<String>) {
    let problems = Problems::new();
    let environment = Environment::from_fn(|name| match name {
        "PORT" => Some("502".into()),
        "SECRET" => Some("hunter2".into()),
        "AGAIN" => Some("${PORT}".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    });
    let value = Document::parse("d.yaml", text.as_ref(), &problems).map(|document| read(document.root(&environment, &problems)));
    (value, problems.into_vec().iter().map(ToString::to_string).collect())
}

/// The value of the key `v`.
fn value<T: FromNode>(text: &str) -> Result<T, String> {
    let (value, problems) = read(text, |mut root| {
        let value = root.required("v");
        root.finish();
        value
    });
    match value.flatten() {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(problems.join("\n")),
    }
}

#[test]
fn text_is_taken_as_it_is_written() {
    for text in ["no", "on", "1.0", "0x10", "007", "1e3", "2026-01-01", "12:30:45", ".5", "=", "true"] {
        assert_eq!(value::<String>(&format!("v: {text}")), Ok(text.to_owned()));
    }
    assert_eq!(value::<String>("v: 'null'"), Ok("null".into()));
    assert_eq!(value::<String>("v: !!str null"), Ok("null".into()));
    assert_eq!(value::<String>("v: \"a\\tb: # c\""), Ok("a\tb: # c".into()));
    assert_eq!(value::<String>("v: |\n  two\n  lines\n"), Ok("two\nlines\n".into()));
    assert_eq!(value::<String>("v: ''"), Ok(String::new()));
}

#[test]
fn an_empty_value_counts_as_not_given() {
    for text in ["v:", "v: ~", "v: null", "v: # later"] {
        assert_eq!(value::<String>(text), Err("d.yaml:1:1: v: `v` has no value".into()), "{text}");
        assert_eq!(read(text, |mut root| root.or("v", 7_u16)), (Some(7), vec![]), "{text}");
        assert_eq!(read(text, |mut root| root.entries("v").len()), (Some(0), vec![]), "{text}");
    }
}

#[test]
fn numbers_are_numbers_quoted_or_not() {
    assert_eq!(value::<u16>("v: 502"), Ok(502));
    assert_eq!(value::<u16>("v: '502'"), Ok(502));
    assert_eq!(value::<u8>("v: 0x1F"), Ok(31));
    assert_eq!(value::<u8>("v: 0o17"), Ok(15));
    assert_eq!(value::<i8>("v: -128"), Ok(-128));
    assert_eq!(value::<i8>("v: -0x80"), Ok(-128));
    assert_eq!(value::<u64>("v: 18446744073709551615"), Ok(u64::MAX));
    assert_eq!(value::<f64>("v: 1"), Ok(1.0));
    assert_eq!(value::<f64>("v: -1.5e-3"), Ok(-0.0015));
    assert_eq!(value::<f32>("v: .5"), Ok(0.5));
}

#[test]
fn what_is_no_number_is_said_to_be_none() {
    assert_eq!(value::<u8>("v: 300"), Err("d.yaml:1:4: v: `300` is out of range: 0 to 255".into()));
    assert_eq!(value::<u8>("v: -1"), Err("d.yaml:1:4: v: `-1` is out of range: 0 to 255".into()));
    for text in
        ["1.0", "1e3", "1_000", "+-1", "--1", "0x", "0x-1", "0xZZ", "''", "12:30", "ten", "٣", "99999999999999999999999999999999999999999"]
    {
        let seen = value::<i64>(&format!("v: {text}"));
        assert!(seen.as_ref().is_err_and(|e| e.contains("expected a whole number")), "{text}: {seen:?}");
    }
    for text in ["nan", ".nan", "inf", "-.inf", "1e999", "1.2.3", "1,5", "''", "0x10"] {
        let seen = value::<f64>(&format!("v: {text}"));
        assert!(seen.as_ref().is_err_and(|e| e.contains("expected a number")), "{text}: {seen:?}");
    }
    assert!(value::<f32>("v: 1e300").is_err_and(|e| e.contains("too large for a 32-bit number")));
    assert!(value::<i32>("v: 010").is_err_and(|e| e.contains("`010` can be read as octal and as decimal")));
}

#[test]
fn yes_no_on_off_are_answers_where_an_answer_is_asked() {
    for (text, expected) in [("true", true), ("no", false), ("On", true), ("OFF", false), ("'yes'", true)] {
        assert_eq!(value::<bool>(&format!("v: {text}")), Ok(expected), "{text}");
    }
    assert_eq!(value::<bool>("v: 1"), Err("d.yaml:1:4: v: expected `true` or `false`, found `1`".into()));
}

#[test]
fn lists_place_each_mistake_at_its_item() {
    assert_eq!(value::<Vec<u8>>("v: [1, 2]"), Ok(vec![1, 2]));
    assert_eq!(value::<Vec<u8>>("v: []"), Ok(vec![]));
    let expected = "d.yaml:3:5: v[1]: expected a whole number, found `x`\nd.yaml:4:5: v[2]: expected a single value, found a list";
    assert_eq!(value::<Vec<u8>>("v:\n  - 1\n  - x\n  - [1]\n"), Err(expected.into()));
    assert_eq!(value::<Vec<u8>>("v: 1"), Err("d.yaml:1:4: v: expected a list, found `1`".into()));
}

#[test]
fn what_may_be_a_secret_is_not_told() {
    for text in ["identity: me:hush", "PassPhrase: hush", "uri: opc.tcp://me:hush@plc", "token: 'hush ${hush'", "key: ${hush hush}"] {
        let (_, problems) = read(text, |mut root| {
            let key = root.keys().next().expect("a key").to_owned();
            root.optional::<u8>(&key);
            root.section(&key).is_some()
        });
        assert!(!problems.is_empty() && problems.iter().all(|told| !told.contains("hush")), "{problems:?}");
    }
}

#[test]
fn words_are_listed_when_another_is_found() {
    #[derive(Debug, PartialEq)]
    enum Order {
        Big,
        Little,
    }
    impl FromNode for Order {
        fn from_node(node: &Node<'_>) -> Result<Self, String> {
            node.one_of([("big", Order::Big), ("little", Order::Little)])
        }
    }
    assert_eq!(value::<Order>("v: little"), Ok(Order::Little));
    assert_eq!(value::<Order>("v: Big"), Err("d.yaml:1:4: v: expected `big` or `little`, found `Big`".into()));
}

#[test]
fn unknown_keys_name_the_key_that_was_probably_meant() {
    let ask = |mut root: Section<'_>| {
        let mut server = root.required_section("server").expect("there");
        server.or("publishing_interval", 100_u32);
        server.or("queue_size", 1_u32);
        server.finish();
        root.finish();
    };
    let (_, problems) = read("server:\n  publising_interval: 5\n  Queue_Size: 3\n  colour: red\n", ask);
    let expected = [
        "d.yaml:2:3: server.publising_interval: unknown key `publising_interval`; did you mean `publishing_interval`?",
        "d.yaml:3:3: server.Queue_Size: unknown key `Queue_Size`; did you mean `queue_size`?",
        "d.yaml:4:3: server.colour: unknown key `colour`; known here: publishing_interval, queue_size",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn duplicate_keys_name_the_first_line() {
    let (_, problems) = read("a:\n  x: 1\n  y: 2\n  'x': 3\n", |_| ());
    assert_eq!(problems, ["d.yaml:4:3: a.x: `x` is there twice, first in line 2; remove one"]);
}

#[test]
fn a_missing_key_is_placed_at_its_section() {
    let (_, problems) =
        read("a: 1\nserver:\n  port: 1\n", |mut root| root.required_section("server").expect("there").required::<String>("uri"));
    assert_eq!(problems, ["d.yaml:2:1: server.uri: `uri` is missing"]);
}

#[test]
fn variables_are_replaced_once_and_never_shown() {
    assert_eq!(value::<u16>("v: ${PORT}"), Ok(502));
    assert_eq!(value::<u16>("v: \"${PORT}\""), Ok(502));
    assert_eq!(value::<String>("v: tcp://${SECRET}:${PORT}/$x$"), Ok("tcp://hunter2:502/$x$".into()));
    assert_eq!(value::<String>("v: ${AGAIN}"), Ok("${PORT}".into()));
    assert_eq!(value::<String>("v: $${PORT}"), Ok("${PORT}".into()));
    assert_eq!(value::<String>("v: a${EMPTY}b"), Ok("ab".into()));
    assert_eq!(value::<u16>("v: ${SECRET}"), Err("d.yaml:1:4: v: expected a whole number, found `${SECRET}`".into()));
    assert_eq!(value::<u16>("v: ${NOPE}"), Err("d.yaml:1:4: v: the environment variable NOPE is not set".into()));
    for text in ["${PORT", "${}", "${1A}", "${A-B}", "${A:-x}"] {
        assert!(value::<String>(&format!("v: '{text}'")).is_err(), "{text}");
    }
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let text = "base: &b {x: 1, y: 2}\nother: &o {z: 9, x: 8}\na:\n  <<: [*b, *o]\n  y: 3\ns: &s text\nt: *s\n";
    let (seen, problems) = read(text, |mut root| {
        let mut a = root.required_section("a").expect("there");
        (a.required::<u8>("x"), a.required::<u8>("y"), a.required::<u8>("z"), root.required::<String>("t"))
    });
    assert_eq!((seen, problems), (Some((Some(1), Some(3), Some(9), Some("text".into()))), vec![]));

    let (_, problems) = read("a: &a\n  <<: *a\n", |_| ());
    assert_eq!(problems, ["d.yaml:2:7: a: an alias inside of what it stands for"]);
    let (_, problems) = read("a:\n  <<: 5\n", |_| ());
    assert_eq!(problems, ["d.yaml:2:3: a: `<<` takes a mapping or a list of mappings"]);
}

#[test]
fn aliases_that_multiply_stay_small() {
    let mut text = String::from("a0: &a0 {k0: x}\n");
    for i in 1..2000 {
        text.push_str(&format!("a{i}: &a{i} {{<<: *a{}, k{i}: x}}\n", i - 1));
    }
    let (_, problems) = read(&text, |_| ());
    assert!(problems.iter().any(|p| p.contains("`<<` makes more than")), "{problems:?}");

    let mut text = String::from("a0: &a0 [x]\n");
    for i in 1..60 {
        text.push_str(&format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}]\n", i - 1));
    }
    assert_eq!(read(&text, |mut root| root.node("a59").is_some()), (Some(true), vec![]));
}

#[test]
fn a_file_that_is_not_yaml_names_the_place() {
    for (text, place) in [
        ("a: [1, 2\nb: 3\n", "d.yaml:2:"),
        ("a:\n\tb: 1\n", "d.yaml:2:"),
        ("a: 'x\n", "d.yaml:"),
        ("a: b: c\n", "d.yaml:1:5:"),
        ("a: *nowhere\n", "d.yaml:1:4:"),
        ("- 1\n", "d.yaml:1:1:"),
        ("just text\n", "d.yaml:1:1:"),
        ("a: 1\n---\na: 2\n", "d.yaml:2:1:"),
        ("? [a, b]\n: 1\n", "d.yaml:1:3:"),
        ("a: 1\nb: \u{1}\n", "d.yaml:2:4:"),
        ("a: 1\0b: 2", "d.yaml:1:5:"),
        ("a: !secret x\n", "d.yaml:1:12:"),
    ] {
        let (_, problems) = read(text, |_| ());
        assert!(problems.len() == 1 && problems[0].starts_with(place), "{text:?}: expected one at {place}, seen {problems:?}");
    }
    let (_, problems) = read("a:\n\tb: 1\n", |_| ());
    assert!(problems[0].contains("begins with a tab"), "{problems:?}");
    let (_, problems) = read(b"a: 1\nb: \xe4\n", |_| ());
    assert_eq!(problems, ["d.yaml:2:4: not UTF-8; save the file as UTF-8"]);
}

#[test]
fn windows_files_read_like_others() {
    let text = "\u{feff}# comment\r\nv: ä\r\nw: [1]\r\nx: 1\r\n";
    let (seen, problems) = read(text, |mut root| {
        let seen = (root.required::<String>("v"), root.required::<Vec<u8>>("w"));
        root.finish();
        seen
    });
    assert_eq!(seen, Some((Some("ä".into()), Some(vec![1]))));
    assert_eq!(problems, ["d.yaml:4:1: x: unknown key `x`; known here: v, w"]);
}

#[test]
fn an_empty_file_is_an_empty_mapping() {
    for text in ["", "\u{feff}", "# nothing\n", "---\n", "---\n...\n", "~", "\n\n"] {
        let problems = Problems::new();
        let document = Document::parse("d.yaml", text.as_bytes(), &problems).expect("readable");
        assert!(document.is_empty() && problems.is_empty(), "{text:?}");
        let environment = Environment::empty();
        assert_eq!(document.root(&environment, &problems).required::<String>("devices"), None);
        assert_eq!(problems.into_vec()[0].to_string(), "d.yaml:1:1: devices: `devices` is missing");
    }
}

#[test]
fn no_nesting_and_no_size_can_exhaust_the_machine() {
    for (text, expected) in [
        ("[".repeat(100_000), "d.yaml:1:"),
        ("{a: ".repeat(100_000), "d.yaml:1:"),
        ("- ".repeat(100_000), "d.yaml:1:129: "),
        ((0..3000).map(|i| format!("{}k:\n", " ".repeat(i))).collect(), "d.yaml:65:65:"),
        ("a: [".to_owned() + &"x,".repeat(2_000_000) + "]", "d.yaml:1:"),
        ("#".repeat(MAX_BYTES + 1), "d.yaml: the file has 8388609 bytes"),
    ] {
        let (_, problems) = read(&text, |_| ());
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "expected {expected}, seen {problems:?}");
    }
    let many: String = (0..5000).map(|i| format!("k{i}: 1\n")).collect();
    let (_, problems) = read(many, |root| root.finish());
    assert_eq!(problems.len(), 1001);
}

#[test]
fn problems_of_all_files_are_sorted_by_place() {
    let (problems, environment) = (Problems::new(), Environment::empty());
    for (file, text) in [("b.yaml", "x: 1\n"), ("a.yaml", "y: 1\nx: 1\n")] {
        Document::parse(file, text.as_bytes(), &problems).expect("readable").root(&environment, &problems).finish();
    }
    let seen: Vec<String> = problems.into_vec().iter().map(|p| format!("{}:{}", p.file.display(), p.line)).collect();
    assert_eq!(seen, ["a.yaml:1", "a.yaml:2", "b.yaml:1"]);
}
