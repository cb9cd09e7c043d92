use super::Secrets;
use proptest::prelude::*;
use std::path::Path;

/// How a file is shown whose folder holds the file `password`.
fn shown(name: &str, text: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("credentials")).expect("a folder");
    for file in ["password", "credentials/press"] {
        std::fs::write(folder.path().join(file), "hush").expect("written");
    }
    Secrets::default().hide(Path::new(name), text.as_bytes(), folder.path())
}

#[test]
fn secrets_of_a_device_file_go_however_they_are_written_and_the_rest_stays() {
    for (text, expected) in [
        ("identity: {user: e, password: hush, x: 1}\n", "identity: {user: e, password: \"***\", x: \"***\"}\n"),
        ("a: 1 # hush\n# hush\nb: 'c # d'\n", "a: 1 \n\nb: 'c # d'\n"),
        ("{\"pass\\x77ord\": hush, b: 1}\n", "{\"pass\\x77ord\": \"***\", b: 1}\n"),
        ("'password' : 'hu''sh'\nb: 1\n", "'password' : \"***\"\nb: 1\n"),
        ("? password\n: hush\n", "? password\n: \"***\"\n"),
        ("password:\n  hush\n  hush\nb: 1\n", "password:\n  \"***\"\nb: 1\n"),
        ("password: [hush, {hush: hush}]\n", "password: [\"***\", {\"***\": \"***\"}]\n"),
        ("password_file: hush\n", "password_file: \"***\"\n"),
        ("password_file: password\n", "password_file: password\n"),
        ("password_file: \"credential:press\"\n", "password_file: \"credential:press\"\n"),
        ("key: /etc/hush\ncertificate: hush\n", "key: \"***\"\ncertificate: \"***\"\n"),
        ("identity: 'e:hush'\n", "identity: \"***\"\n"),
        ("password: ${PASSWORD}\n", "password: ${PASSWORD}\n"),
        ("password: ${PASSWORD}hush\n", "password: \"***\"\n"),
        ("Ä: ö\npasswort: hüsh\n", "Ä: ö\npasswort: \"***\"\n"),
        ("uri: opc.tcp://e:hush@plc:4840/a\n", "uri: \"opc.tcp://***@plc:4840/a\"\n"),
        ("uri: \"opc.tcp:/\\x2fe:hush@plc\"\n", "uri: \"opc.tcp://***@plc\"\n"),
        ("variables:\n  bypass: {coil: 1}\n", "variables:\n  bypass: {coil: 1}\n"),
        ("variables:\n  pass: hush\n", "variables:\n  pass: \"***\"\n"),
        ("password:\nb: 1\n", "password:\nb: 1\n"),
    ] {
        assert_eq!(shown("press.yaml", text), expected, "of {text:?}");
    }
}

#[test]
fn secrets_of_the_config_go_however_they_are_written_and_the_rest_stays() {
    for (text, expected) in [
        ("id = \"edge-1\" # hush\n", "id = \"edge-1\" \n"),
        ("[kafka.overrides]\n\"sasl.pass\\u0077ord\" = \"hush\"\n", "[kafka.overrides]\n\"sasl.pass\\u0077ord\" = \"***\"\n"),
        ("kafka.sasl = \"e:hush\"\n", "kafka.sasl = \"***\"\n"),
        ("kafka.sasl = {pin = 1234, password_file = \"hush\"}\n", "kafka.sasl = {pin = \"***\", password_file = \"***\"}\n"),
        ("kafka.sasl.password_file = \"password\"\n", "kafka.sasl.password_file = \"password\"\n"),
        ("kafka.tls.key = \"hush\"\n", "kafka.tls.key = \"***\"\n"),
        ("status_access = {token_file = \"hush\"}\n", "status_access = {token_file = \"***\"}\n"),
        ("kafka.brokers = [\"a:1\", \"ssl://e:hush@b:2\"]\n", "kafka.brokers = [\"a:1\", \"ssl://***@b:2\"]\n"),
        ("[[a]]\ntoken = 1\n[[a]]\ntoken = 2\n", "[[a]]\ntoken = \"***\"\n[[a]]\ntoken = \"***\"\n"),
    ] {
        assert_eq!(shown("edge.toml", text), expected, "of {text:?}");
    }
}

#[test]
fn a_file_of_which_it_cannot_be_said_what_is_a_secret_is_left_out() {
    for text in [
        "a: &x hush\npassword: *x\n",
        "a: &x {b: hush}\npassword: *x\n",
        "password: !!str hush\n",
        "password: |\n  hush\n",
        "password: >-\n  hush\nb: 1\n",
        "a: 1\n---\npassword: hush\n",
        "{[hush]: 1}\n",
        "password: {hush\n",
        "\"\npassword: hush\n\"",
        "a: '\npassword: hush\n'\n",
    ] {
        let told = shown("press.yaml", text);
        assert!(told.starts_with("left out: ") && !told.contains("hush"), "of {text:?}: {told}");
    }
    for quotes in ["\"\"\"", "'''"] {
        let told = shown("edge.toml", &format!("a = {quotes}\npassword = \"hush\"\n{quotes}\n"));
        assert!(told.starts_with("left out: ") && !told.contains("hush"), "{told}");
    }
    let told = shown("edge.toml", "password = hush\n");
    assert_eq!(told, "left out: it is not TOML, so it cannot be said where its secrets are\n");
    assert!(Secrets::default().hide(Path::new("a.yaml"), b"\xff", Path::new("/")).starts_with("left out: "));
}

#[test]
fn a_secret_of_a_config_is_hidden_in_what_programs_say() {
    let mut secrets = Secrets::default();
    secrets.hide(Path::new("a.yaml"), b"a: &x 1\npassword: hunter2\nb: 2\n", Path::new("/nowhere"));
    secrets.hide(Path::new("b.toml"), b"kafka.sasl.password_file = \"swordfish\"\n", Path::new("/nowhere"));
    let told = secrets.hide_in("edge.toml:1:1: /etc/swordfish cannot be read\nhunter2 and more\n");
    assert_eq!(told, "edge.toml:1:1: /etc/*** cannot be read\n*** and more\n");
}

proptest! {
    #[test]
    fn a_password_never_comes_through_a_device_file(around in "[a-z0-9:#,{}\\[\\]'\"&*!|>\\-? \n]{0,40}", hush in "[a-z]{12}", after in "\\PC*") {
        let text = format!("{around}\npassword: {hush}\n{after}");
        let told = shown("press.yaml", &text);
        prop_assert!(around.contains(&hush) || after.contains(&hush) || !told.contains(&hush), "{told}");
    }

    #[test]
    fn a_password_never_comes_through_the_config(around in "[a-z0-9=#,{}\\[\\]'\"\\-. \n]{0,40}", hush in "[a-z]{12}", after in "\\PC*") {
        let text = format!("{around}\npassword = \"{hush}\"\n{after}");
        let told = shown("edge.toml", &text);
        prop_assert!(around.contains(&hush) || after.contains(&hush) || !told.contains(&hush), "{told}");
    }
}
