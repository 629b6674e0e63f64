//! Records: one definition per member, from which it is read, checked, overridden and documented.
//!
//! Reading never stops at a problem. Each member that cannot be read is reported and becomes `None`, and a record
//! is there only if all of its members are, so that everything wrong with a file is said at once.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use super::{
    effective::Effective,
    problem::{Place, Problem, suggestion},
    rules::{Kind, Rule},
    tree::{Node, Style, Value},
};

/// What all parts of one reading share.
pub(crate) struct Context {
    /// Whether `--dev` was given.
    pub(super) dev: bool,
    problems: RefCell<BTreeSet<Problem>>,
    effective: RefCell<Effective>,
    /// What was read, and what could not be.
    files: RefCell<BTreeSet<PathBuf>>,
    /// The members' names of each kind of record: a file may have many thousand records of one kind.
    names: RefCell<HashMap<TypeId, Rc<[&'static str]>>>,
    /// Records that stand for all that say nothing of their own, and those that could not be read.
    shared: RefCell<HashMap<TypeId, Option<Arc<dyn Any + Send + Sync>>>>,
}

impl Context {
    pub(super) fn new(dev: bool) -> Self {
        Self {
            dev,
            problems: RefCell::default(),
            effective: RefCell::default(),
            files: RefCell::default(),
            names: RefCell::default(),
            shared: RefCell::default(),
        }
    }

    /// The names of `R`'s members.
    pub(super) fn names<R: Record>(&self) -> Rc<[&'static str]> {
        let mut names = self.names.borrow_mut();
        let of_record = names.entry(TypeId::of::<R>());
        Rc::clone(of_record.or_insert_with(|| R::members().iter().map(|member| member.name).collect()))
    }

    /// What `read` gives the first time it is asked for an `R`.
    pub(super) fn once<R: Record>(&self, read: impl FnOnce() -> Option<R>) -> Option<Arc<R>> {
        let known = self.shared.borrow().get(&TypeId::of::<R>()).cloned();
        let record = known.unwrap_or_else(|| {
            let record = read().map(|record| Arc::new(record) as Arc<dyn Any + Send + Sync>);
            self.shared.borrow_mut().insert(TypeId::of::<R>(), record.clone());
            record
        });
        record.and_then(|record| record.downcast().ok())
    }

    pub(super) fn report(&self, place: Place, member: impl Into<String>, message: impl Into<String>) {
        let problem = Problem {
            place,
            member: member.into(),
            message: message.into(),
        };
        self.problems.borrow_mut().insert(problem);
    }

    /// Notes the text that a member is read from, save for the members of each IdP.
    fn note<T>(&self, path: &str, text: &str, rule: &Rule<T>) {
        if !path.starts_with("idps[") {
            self.effective
                .borrow_mut()
                .note(path, text, rule.kind, rule.secret);
        }
    }

    pub(super) fn take_effective(&self) -> Effective {
        self.effective.take()
    }

    pub(super) fn take_problems(&self) -> BTreeSet<Problem> {
        self.problems.take()
    }

    pub(super) fn note_file(&self, path: &Path) {
        self.files.borrow_mut().insert(path.to_owned());
    }

    pub(super) fn into_files(self) -> BTreeSet<PathBuf> {
        self.files.into_inner()
    }
}

/// A member as the override variables and the reference see it.
pub(crate) struct Member {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// As it would be written in the file; for people where there is none.
    pub(super) default: String,
    /// What values it takes.
    pub(super) takes: String,
    pub(super) doc: String,
}

pub(crate) enum Shape {
    Scalar,
    List,
    ListOrWord,
    /// Members with free names.
    Map,
    Section(Vec<Member>),
    Sections(Vec<Member>),
}

/// A mapping with fixed members; made by [`record!`].
pub(crate) trait Record: Sized + Send + Sync + 'static {
    fn members() -> Vec<Member>;

    /// Reads all members; `None` if any of them has a problem, all of which are then reported.
    fn read(section: &Section<'_>) -> Option<Self>;
}

/// What a record as a whole must meet beyond what each of its members says.
pub(crate) trait Check {
    /// What is told by the file alone, before members are read: one that cannot be read must not hide it.
    fn look(_: &Section<'_>) {}

    /// What is told by the members, once all of them are read.
    fn check(&self, _: &Section<'_>) {}
}

/// How one member is read; made by the functions of [`fields`](super::fields).
pub(crate) trait Field {
    type Output;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member>;

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<Self::Output>;
}

/// `field`, known to give a `T`: it tells the compiler what a rule is to read.
pub(super) fn field<T, F: Field<Output = T>>(field: F) -> F {
    field
}

/// Defines a record: its struct, and for each member the documentation, the type and the [`Field`].
macro_rules! record {
    (
        $(#[$attribute:meta])*
        pub(crate) struct $record:ident {
            $( $(#[doc = $doc:literal])+ $name:ident: $type:ty = $field:expr; )*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug)]
        pub(crate) struct $record {
            $( $(#[doc = $doc])+ pub(crate) $name: $type, )*
        }

        impl $crate::config::record::Record for $record {
            fn members() -> Vec<$crate::config::record::Member> {
                let mut members = Vec::new();
                $( members.extend($crate::config::record::Field::members(
                    &$crate::config::record::field::<$type, _>($field),
                    stringify!($name),
                    concat!($($doc),+).trim().to_owned(),
                )); )*
                members
            }

            fn read(section: &$crate::config::record::Section<'_>) -> Option<Self> {
                <Self as $crate::config::record::Check>::look(section);
                $( let $name = $crate::config::record::Field::read(&$crate::config::record::field::<$type, _>($field), section, stringify!($name)); )*
                let record = Self { $( $name: $name?, )* };
                $crate::config::record::Check::check(&record, section);
                Some(record)
            }
        }
    };
}
pub(super) use record;

/// A mapping that is being read. A member is looked for in its layers, one after another: in an IdP itself, then
/// in `idp_defaults`.
pub(crate) struct Section<'a> {
    pub(super) cx: &'a Context,
    path: String,
    place: Place,
    layers: Vec<Layer<'a>>,
}

/// A mapping, and its full name.
struct Layer<'a> {
    node: &'a Node,
    path: String,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(cx: &'a Context, node: &'a Node) -> Self {
        let mut section = Self {
            cx,
            path: String::new(),
            place: node.place.clone(),
            layers: Vec::new(),
        };
        section.push(node, String::new());
        section
    }

    /// A mapping of its own, with the section `defaults` beneath it.
    pub(super) fn over(cx: &'a Context, node: &'a Node, name: &str, defaults: &'a Node) -> Self {
        let mut section = Self::root(cx, node);
        section.push(defaults, name.to_owned());
        section
    }

    /// Takes `node` as the next layer, if it is a mapping.
    fn push(&mut self, node: &'a Node, path: String) {
        match &node.value {
            Value::Map(_) => self.layers.push(Layer { node, path }),
            Value::Invalid => {}
            // A heading whose members are all commented out.
            _ if node.is_null() => {}
            _ => self.cx.report(
                node.place.clone(),
                path,
                format!("expected members, found {}", node.kind()),
            ),
        }
    }

    /// The value of `name` in the first layer that has it.
    pub(super) fn find(&self, name: &str) -> Option<&'a Node> {
        self.layers
            .iter()
            .find_map(|layer| layer.node.find(name))
            .map(|entry| &entry.node)
    }

    /// Whether the first layer itself says `name`.
    pub(super) fn says(&self, name: &str) -> bool {
        self.own().is_some_and(|node| node.find(name).is_some())
    }

    pub(super) fn own(&self) -> Option<&'a Node> {
        // An empty heading takes no layer, so the first one may be that of the defaults.
        self.layers
            .first()
            .filter(|layer| layer.path == self.path)
            .map(|layer| layer.node)
    }

    /// The text of `name` in the first layer itself, whatever it may be read as.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let node = &self.own()?.find(name)?.node;
        match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => Some(text),
            _ => None,
        }
    }

    /// How many elements the list `name` has.
    pub(super) fn count(&self, name: &str) -> usize {
        match self.find(name).map(|node| &node.value) {
            Some(Value::List(nodes)) => nodes.len(),
            _ => 0,
        }
    }

    /// The full name of a member, for example `idps[0].url`, or `idp_defaults.leeway` where it stands there.
    pub(super) fn path_of(&self, name: &str) -> String {
        let layer = self.layers.iter().find(|layer| layer.node.find(name).is_some());
        join(layer.map_or(&self.path, |layer| &layer.path), name)
    }

    /// Reports a problem with `name`, at its value where there is one, else where the section begins.
    pub(super) fn report(&self, name: &str, message: impl Into<String>) {
        let place = self.find(name).map_or(&self.place, |node| &node.place);
        self.cx.report(place.clone(), self.path_of(name), message);
    }

    pub(super) fn child(&self, name: &'static str) -> Self {
        let place = self.find(name).map_or(&self.place, |node| &node.place).clone();
        let mut child = Self {
            cx: self.cx,
            path: join(&self.path, name),
            place,
            layers: Vec::new(),
        };
        for layer in &self.layers {
            if let Some(entry) = layer.node.find(name) {
                child.push(&entry.node, join(&layer.path, name));
            }
        }
        child
    }

    /// One element of the list `name`, with the section `defaults`, where there is one, beneath it.
    pub(super) fn element(&self, name: &str, index: usize, defaults: Option<&str>) -> Option<Self> {
        let Value::List(nodes) = &self.find(name)?.value else {
            return None;
        };
        let node = nodes.get(index)?;
        let path = format!("{}[{index}]", join(&self.path, name));
        let mut element = Self {
            cx: self.cx,
            path: path.clone(),
            place: node.place.clone(),
            layers: Vec::new(),
        };
        match &node.value {
            Value::Map(_) => {}
            Value::Invalid => return None,
            _ => {
                element.report("", format!("expected members, found {}", node.kind()));
                return None;
            }
        }
        element.push(node, path);
        // What is wrong with the defaults as a whole is said where they are read themselves.
        if let Some(defaults) = defaults
            && let Some(node) = self
                .find(defaults)
                .filter(|node| matches!(node.value, Value::Map(_)))
        {
            element.push(node, join(&self.path, defaults));
        }
        Some(element)
    }

    /// Reads `R`, and reports members of the first layer that it does not have.
    pub(super) fn read<R: Record>(&self) -> Option<R> {
        if let Some(Value::Map(entries)) = self.own().map(|node| &node.value) {
            let names = self.cx.names::<R>();
            for entry in entries {
                if !names.contains(&entry.key.as_str()) {
                    let near = suggestion(&entry.key, names.iter().copied());
                    let message = match entry.key.as_str() {
                        "<<" => {
                            "merge keys are not supported; `idp_defaults` holds what IdPs share".to_owned()
                        }
                        _ => format!("unknown member{near}"),
                    };
                    self.cx
                        .report(entry.key_place.clone(), self.path_of(&entry.key), message);
                }
            }
        }
        R::read(self)
    }

    /// Reads one scalar by a rule.
    pub(super) fn scalar<T>(&self, node: &Node, path: String, rule: &Rule<T>) -> Option<T> {
        let outcome = match &node.value {
            Value::Scalar { text, style } if rule.kind.admits(node.kind(), *style) => {
                self.cx.note(&path, text, rule);
                if rule.kind == Kind::File {
                    self.cx.note_file(Path::new(text));
                }
                rule.parse(text)
            }
            Value::Invalid => return None,
            _ if node.is_null() => Err(format!(
                "expected {}, found nothing; leave the member out to have its default",
                rule.kind
            )),
            Value::Scalar {
                style: Style::Plain, ..
            } if rule.kind.is_text() => {
                Err(format!("expected text, found {}; put it in quotes", node.kind()))
            }
            _ => Err(format!("expected {}, found {}", rule.kind, node.kind())),
        };
        outcome
            .map_err(|message| self.cx.report(node.place.clone(), path, message))
            .ok()
    }

    /// Notes that the list `name` is empty, which is not the same as none.
    pub(super) fn note_empty(&self, name: &str) {
        let path = self.path_of(name);
        if !path.starts_with("idps[") {
            self.cx.effective.borrow_mut().note_empty(&path);
        }
    }

    /// Reads one default, which the tests hold to be right.
    pub(super) fn default<T>(&self, name: &str, text: &str, rule: &Rule<T>) -> Option<T> {
        if !self.path.starts_with("idps[") {
            self.cx.note(&join(&self.path, name), text, rule);
        }
        rule.parse(text)
            .map_err(|message| self.report(name, format!("the default: {message}")))
            .ok()
    }
}

/// `parent.name`, or the one of them that is not empty.
fn join(parent: &str, name: &str) -> String {
    match (parent, name) {
        (parent, "") => parent.to_owned(),
        ("", name) => name.to_owned(),
        (parent, name) => format!("{parent}.{name}"),
    }
}
