//! The reference in `docs/configuration.md` is made from the members themselves.

use std::{fmt::Write, fs, path::PathBuf};

use crate::config::{
    Config,
    record::{Member, Record, Shape},
};

const BEGIN: &str = "<!-- members: written by the test `the_reference_is_current` -->\n";
const END: &str = "<!-- end of members -->\n";

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md")
}

/// One table a section, with a row for each of its members.
fn tables(title: &str, doc: &str, members: &[Member], into: &mut String) {
    let cell = |text: &str| text.replace('|', "\\|");
    let (inner, own): (Vec<_>, Vec<_>) = members
        .iter()
        .partition(|member| matches!(member.shape, Shape::Section(_) | Shape::Sections(_)));
    let _ = writeln!(into, "### {title}\n\n{doc}\n");
    if !own.is_empty() {
        let _ = writeln!(into, "| member | takes | default | meaning |\n|---|---|---|---|");
    }
    for member in own {
        let (takes, default, doc) = (cell(&member.takes), cell(&member.default), cell(&member.doc));
        let _ = writeln!(into, "| `{}` | {takes} | {default} | {doc} |", member.name);
    }
    into.push('\n');
    for member in inner {
        let path = if title == "Top level" {
            member.name.to_owned()
        } else {
            format!("{}.{}", title.trim_matches('`'), member.name)
        };
        match &member.shape {
            // Its members are those of an IdP.
            _ if path == "idp_defaults" => {
                let _ = writeln!(into, "### `idp_defaults`\n\n{}\n", member.doc);
            }
            Shape::Section(members) => tables(&format!("`{path}`"), &member.doc, members, into),
            Shape::Sections(members) => tables(&format!("`{path}[]`"), &member.doc, members, into),
            _ => {}
        }
    }
}

fn made() -> String {
    let mut text = BEGIN.to_owned();
    text.push('\n');
    tables(
        "Top level",
        "A file holds these sections, all of which may be left out.",
        &Config::members(),
        &mut text,
    );
    text + END
}

/// Where the page is not current, it is written anew and the test fails, so that the change is looked at.
#[test]
fn the_reference_is_current() {
    let page = page();
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the page says where the members begin");
    let (_, after) = rest.split_once(END).expect("the page says where the members end");
    let current = format!("{before}{}{after}", made());
    if text != current {
        fs::write(&page, current).unwrap();
        panic!("docs/configuration.md was not current and has been written anew: look at the difference");
    }
}
