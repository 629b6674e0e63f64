//! The reference in `docs/configuration.md` is made from the members themselves.

use std::{fmt::Write, fs, path::PathBuf};

use crate::config::{
    Config,
    record::{Member, Record, Shape},
};

const BEGIN: &str =
    "<!-- members: made by `cargo test -p tokenward-server -- --ignored rewrite_the_reference` -->\n";
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

#[test]
fn the_reference_is_current() {
    let page = fs::read_to_string(page()).unwrap();
    let begin = page.find(BEGIN).expect("the page says where the members begin");
    let end = page.find(END).expect("the page says where the members end") + END.len();
    assert_eq!(&page[begin..end], made(), "run the command that the page names");
}

#[test]
#[ignore = "writes docs/configuration.md"]
fn rewrite_the_reference() {
    let text = fs::read_to_string(page()).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    fs::write(page(), format!("{before}{}{after}", made())).unwrap();
}
