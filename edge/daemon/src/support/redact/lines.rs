//! Texts that no parser understands, e.g. of a unit or the journal, for somebody else's eyes. Rather too much is left out than too little:
//! after the name of a secret the whole rest of the line goes.

/// Parts of keys whose values are secrets; the name of a file that holds one is none.
const SECRETS: [&str; 9] = ["pass", "pwd", "secret", "token", ".pem", "apikey", "api_key", "oauthbearer", "setcredential"];
const INSTEAD: &str = " ***";

/// The text, with `***` in place of what follows the name of a secret, on its line and on the lines that belong to it, and of logins in addresses.
pub(crate) fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Indentation of a key whose value goes on below it.
    let mut below: Option<usize> = None;
    // Brackets that are open where a secret was: its value may stand on any line before they are closed.
    let mut open = 0;
    let mut in_key = false;
    for line in text.lines() {
        if in_key || line.contains("-----BEGIN") {
            in_key = !line.contains("-----END");
            continue;
        }
        let indentation = line.len() - line.trim_start().len();
        if open > 0 {
            open += brackets(line);
            continue;
        }
        // A list below a key may stand as far left as the key.
        let is_item = |key: usize| indentation == key && line.trim_start().starts_with('-');
        if below.is_some_and(|key| line.trim().is_empty() || indentation > key || is_item(key)) {
            continue;
        }
        below = None;
        match secret(line) {
            Some(end) => {
                out.push_str(&without_login(&line[..end]));
                out.push_str(INSTEAD);
                below = Some(indentation);
                open = brackets(line).max(0);
            }
            None => out.push_str(&without_login(line)),
        }
        out.push('\n');
    }
    out
}

/// How many brackets more are opened than closed.
fn brackets(line: &str) -> i32 {
    line.chars().map(|c| i32::from("{[".contains(c)) - i32::from("}]".contains(c))).sum()
}

/// Where the value of a secret begins in a line: behind the ':' or '=' after its key.
fn secret(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    let separators = lower.char_indices().filter(|(_, c)| *c == ':' || *c == '=');
    separators.map(|(at, _)| at).find_map(|at| {
        let key = lower[..at].trim_end().trim_end_matches(['"', '\'']);
        let outside = |(_, c): &(usize, char)| !(c.is_ascii_alphanumeric() || "_-.".contains(*c));
        let begin = key.char_indices().rfind(outside).map_or(0, |(before, c)| before + c.len_utf8());
        let key = &key[begin..];
        let is_secret = SECRETS.iter().any(|part| key.contains(part)) && !key.ends_with("_file") && !key.ends_with(".location");
        is_secret.then_some(at + 1)
    })
}

/// Whether an address in the text has a login.
pub(super) fn has_login(text: &str) -> bool {
    without_login(text) != text
}

/// `scheme://user:password@host` becomes `scheme://***@host`.
pub(super) fn without_login(line: &str) -> String {
    let Some(scheme) = line.find("://").map(|at| at + 3) else { return line.to_owned() };
    let address = &line[scheme..];
    let end = address.find(|c: char| c.is_whitespace() || "/\"',]}".contains(c)).unwrap_or(address.len());
    match address[..end].rfind('@') {
        Some(at) => format!("{}***{}{}", &line[..scheme], &address[at..end], without_login(&address[end..])),
        None => format!("{}{}", &line[..scheme + end], without_login(&address[end..])),
    }
}

#[cfg(test)]
mod tests {
    use super::without_secrets;
    use proptest::prelude::*;

    #[test]
    fn secrets_go_whatever_the_file_looks_like_and_the_rest_stays() {
        for (text, expected) in [
            ("id = \"edge-1\" # hush\n", "id = \"edge-1\" # hush\n"),
            ("password_file = \"/etc/x\"\n", "password_file = \"/etc/x\"\n"),
            ("\"sasl.password\" = \"hush\"\n", "\"sasl.password\" = ***\n"),
            ("\"ssl.key.pem\" = \"hush\"\n", "\"ssl.key.pem\" = ***\n"),
            ("\"ssl.key.location\" = \"/etc/k.pem\"\n", "\"ssl.key.location\" = \"/etc/k.pem\"\n"),
            ("identity: {user: edge, password: hush, x: 1}\n", "identity: {user: edge, password: ***\n"),
            ("  Password: |\n    hush\n\n    hush\n  next: 1\n", "  Password: ***\n  next: 1\n"),
            ("  password:\n    hush\nnext: 1\n", "  password: ***\nnext: 1\n"),
            ("uri: opc.tcp://me:hush@plc:4840/a\n", "uri: opc.tcp://***@plc:4840/a\n"),
            ("Environment=A=b PASSWORD=hush\n", "Environment=A=b PASSWORD= ***\n"),
            ("uri: \"opc.tcp://me:hush@plc\", password: y\n", "uri: \"opc.tcp://***@plc\", password: ***\n"),
            ("a: {user: e, password:\nhush }\nb: 1\n", "a: {user: e, password: ***\nb: 1\n"),
            ("password:\n- hush\nb: 1\n", "password: ***\nb: 1\n"),
            ("passwort: hush\npwd: hush\n", "passwort: ***\npwd: ***\n"),
            ("key: |\n  -----BEGIN PRIVATE KEY-----\n  hush\n  -----END PRIVATE KEY-----\nb: 1\n", "key: |\nb: 1\n"),
            ("urls = [\"nats://a\", \"nats://me:hush@b\"]\n", "urls = [\"nats://a\", \"nats://***@b\"]\n"),
        ] {
            assert_eq!(without_secrets(text), expected, "of {text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_a_password_never_comes_through(text in "\\PC*", hush in "[a-z]{12}") {
            let told = without_secrets(&format!("{text}\npassword: {hush}\n{text}"));
            prop_assert!(text.contains(&hush) || !told.contains(&hush), "{told}");
        }
    }
}
