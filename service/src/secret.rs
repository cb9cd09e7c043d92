//! Files that a config names, above all those with secrets: where they are, and that not everybody can read them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Before the name of a file that systemd hands over.
const CREDENTIAL: &str = "credential:";
/// How the units name the folder that they hand over: `LoadCredential=openfactory:FOLDER`.
const HANDED_OVER: &str = "openfactory";

/// Where a path of the config leads. A relative path begins at the folder of the config file. `credential:NAME` is what systemd hands over
/// of the folder `credentials` there, which root alone can read; for a person who runs a command it is that file itself.
pub fn locate(folder: &Path, path: &Path) -> PathBuf {
    match path.to_str().and_then(|path| path.strip_prefix(CREDENTIAL)) {
        Some(name) => credential(folder, name, std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)),
        None => folder.join(path),
    }
}

/// Whether a secret may stand at a key of a config, e.g. `kafka.sasl.password`, be it in the wrong form: what stands there is not to be shown.
pub fn may_stand_at(key: &str) -> bool {
    const WORDS: [&str; 9] = ["pass", "pwd", "secret", "token", "credential", "login", "seed", "identity", "apikey"];
    const HOLDERS: [&str; 5] = ["sasl", "tls", "key", "status_access", "overrides"];
    let key = key.to_lowercase();
    let is_open = key.rsplit('.').next().is_some_and(|last| ["mechanism", "user", "username", "policy", "mode"].contains(&last));
    !is_open && (WORDS.iter().any(|word| key.contains(word)) || key.split('.').any(|part| HOLDERS.contains(&part)))
}

fn credential(folder: &Path, name: &str, handed_over: Option<PathBuf>) -> PathBuf {
    match handed_over {
        Some(by_systemd) => by_systemd.join(format!("{HANDED_OVER}_{name}")),
        None => folder.join("credentials").join(name),
    }
}

/// A secret that is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{} cannot be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such file. It is not named: somebody may have written the secret itself in place of its file.
    #[error("there is no such file in {}; write the secret into a file of its own, and the file's name here", folder.display())]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Everybody can read it.
    #[error("everybody on this machine can read the secret {}: chmod o= {}", .0.display(), .0.display())]
    Exposed(PathBuf),
}

/// An error for anything but a regular file: opened, a pipe would wait for somebody to write.
pub(crate) fn expect_regular(file: &Path) -> io::Result<()> {
    if fs::metadata(file)?.is_file() { Ok(()) } else { Err(io::Error::other("it is no regular file")) }
}

/// Whether the file can be read, and not by everybody.
pub fn check(file: &Path) -> Result<(), Error> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            Error::Missing { folder: folder.unwrap_or(Path::new(".")).to_owned() }
        }
        _ => Error::Unreadable { file: file.to_owned(), source },
    };
    expect_regular(file).map_err(unreadable)?;
    let found = fs::File::open(file).and_then(|file| file.metadata()).map_err(unreadable)?;
    if found.permissions().mode() & 0o007 == 0 { Ok(()) } else { Err(Error::Exposed(file.to_owned())) }
}

/// Reads a secret, without the line end after it.
pub fn read(file: &Path) -> Result<String, Error> {
    check(file)?;
    let text = fs::read_to_string(file).map_err(|source| Error::Unreadable { file: file.to_owned(), source })?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{check, credential, locate, read};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn a_secret_that_everybody_can_read_is_refused_with_the_command_that_mends_it() {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        std::fs::write(file.path(), "hush\n").expect("temp file");
        let mode = |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).expect("own file");
        mode(0o644);
        let told = check(file.path()).expect_err("exposed").to_string();
        assert!(told.ends_with(&format!("chmod o= {}", file.path().display())), "{told}");
        mode(0o640);
        assert_eq!(read(file.path()).expect("for the group alone"), "hush");
    }

    #[test]
    fn a_secret_in_place_of_its_files_name_is_not_told() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), "").expect("written");
        for secret in ["hunter2", "file/hunter2", &"hunter2".repeat(50)] {
            let told = crate::error::chain(&read(&folder.path().join(secret)).expect_err("no such file"));
            assert!(told.starts_with("there is no such file in ") && !told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn a_credential_is_what_systemd_hands_over_or_the_file_itself() {
        let folder = Path::new("/etc/x");
        assert_eq!(credential(folder, "kafka-password", Some("/run/c".into())), Path::new("/run/c/openfactory_kafka-password"));
        assert_eq!(credential(folder, "kafka-password", None), Path::new("/etc/x/credentials/kafka-password"));
        assert_eq!(locate(folder, Path::new("ca.pem")), Path::new("/etc/x/ca.pem"));
    }
}
