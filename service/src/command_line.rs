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
    // The library calls the section after what it is for clap; people look for examples.
    let text = String::from_utf8_lossy(&text).replace(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n").replace(".SH EXTRA\n", ".SH NOTES\n");
    std::fs::write(folder.join(page.get_filename()), text)
}
