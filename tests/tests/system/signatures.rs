//! Other languages sign commands as we do, from what docs/commands.md says.

use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use system_tests::{process, tools};

/// What a program makes of the test vectors, which hold what is expected.
fn agrees(program: &Path, script: &str) -> anyhow::Result<()> {
    let (script, vectors) = (
        tools::tests_folder().join("signatures").join(script),
        tools::tests_folder().join("../protocols/asset-stream/tests/golden/signatures.json"),
    );
    let expected: Vec<Json> = serde_json::from_str(&std::fs::read_to_string(&vectors)?)?;
    let words = [script.to_string_lossy(), vectors.to_string_lossy()];
    let (code, out, err) = process::run(program, &words.each_ref().map(|word| &**word), Duration::from_secs(60))?;
    assert_eq!(code, Some(0), "{err}");
    let seen: Vec<Json> = out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(seen.len(), expected.len(), "{out}");
    for (seen, expected) in seen.iter().zip(&expected) {
        assert_eq!((&seen["canonical"], &seen["signature"]), (&expected["canonical"], &expected["signature"]), "{}", expected["name"]);
    }
    Ok(())
}

#[test]
fn python_signs_commands_as_we_do() -> anyhow::Result<()> {
    agrees(&tools::python()?, "sign.py")
}

#[test]
fn javascript_signs_commands_as_we_do() -> anyhow::Result<()> {
    let node = Path::new("/usr/bin/node");
    if !node.exists() {
        tools::skipped("there is no /usr/bin/node: apt-get install nodejs");
        return Ok(());
    }
    agrees(node, "sign.js")
}
