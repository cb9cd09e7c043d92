//! What is made of a command line: completion scripts and man pages.

use std::io;
use std::path::Path;

use clap::{Args, Command};
use clap_mangen::Man;

/// `completion`: a script for a shell.
#[derive(Clone, Debug, Args)]
pub struct Completion {
    /// The shell to complete for.
    shell: clap_complete::Shell,
}

impl Completion {
    /// Prints the script.
    pub fn print(&self, mut command: Command) -> io::Result<()> {
        let (mut script, name) = (Vec::new(), command.get_name().to_owned());
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        crate::output::print(&String::from_utf8_lossy(&script))
    }
}

/// Writes man pages of a command and of its subcommands into a folder, each with the examples of its help.
pub fn write_manual(command: Command, folder: &Path) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_pages(command, folder)
}

fn write_pages(command: Command, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(below.clone(), folder)?;
    }
    let page = Man::new(command);
    let mut text = Vec::new();
    page.render(&mut text)?;
    let text = in_sections(&String::from_utf8_lossy(&text));
    std::fs::write(folder.join(page.get_filename()), text)
}

/// What both programs end with, where a page says nothing else.
const EXIT_STATUS: &str = ".SH EXIT STATUS\n0 success, 1 failure, 2 wrong usage, 78 bad config\n";

/// The library puts all that follows the options into one section, named after what it is for clap. People look for examples, files and exit
/// codes in sections of their own.
fn in_sections(page: &str) -> String {
    const EXTRA: &str = ".SH EXTRA\n";
    let (before, rest) = page.split_once(EXTRA).unwrap_or((page, ""));
    let (extra, after) = rest.find("\n.SH ").map_or((rest, ""), |at| rest.split_at(at + 1));
    let (mut notes, mut sections, mut exit_status) = (String::new(), String::new(), EXIT_STATUS.to_owned());
    for paragraph in extra.split("\n\n").map(str::trim_end).filter(|paragraph| !paragraph.is_empty()) {
        // Lines of commands and of files stay as they are.
        let kept = |title: &str, lines: &str| format!(".SH {title}\n.nf\n{lines}\n.fi\n");
        if let Some(lines) = paragraph.strip_prefix("Examples:\n") {
            sections.push_str(&kept("EXAMPLES", lines));
        } else if let Some(lines) = paragraph.strip_prefix("Files:\n") {
            sections.push_str(&kept("FILES", lines));
        } else if let Some(codes) = paragraph.strip_prefix("Exit codes: ") {
            exit_status = format!(".SH EXIT STATUS\n{codes}\n");
        } else {
            notes.push_str(&format!("{}{paragraph}\n", if notes.is_empty() { ".SH NOTES\n" } else { ".PP\n" }));
        }
    }
    format!("{before}{notes}{exit_status}{sections}{after}")
}

#[cfg(test)]
mod tests {
    use super::in_sections;

    #[test]
    fn notes_examples_files_and_exit_codes_are_sections_of_their_own() {
        let page = ".SH OPTIONS\nx\n.SH EXTRA\nOne.\n\nTwo.\n\nExamples:\n  a:\n    b\n\nFiles:\n  /c  d\n\nExit codes: 0 fine,\n1 not\n.SH VERSION\nv1\n";
        let expected = ".SH OPTIONS\nx\n.SH NOTES\nOne.\n.PP\nTwo.\n.SH EXIT STATUS\n0 fine,\n1 not\n.SH EXAMPLES\n.nf\n  a:\n    b\n.fi\n.SH FILES\n.nf\n  /c  d\n.fi\n.SH VERSION\nv1\n";
        assert_eq!(in_sections(page), expected);
        assert_eq!(
            in_sections(".SH OPTIONS\nx\n"),
            ".SH OPTIONS\nx\n.SH EXIT STATUS\n0 success, 1 failure, 2 wrong usage, 78 bad config\n"
        );
    }
}
