use std::{error::Error, fmt, sync::Arc};

/// What went wrong in a store. Its text names paths, never content.
/// Cheap to clone: one failed commit answers all who waited for it.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Another process holds the store.
    Locked,
    /// A newer version of the program wrote the store.
    Newer,
    /// The store's file is damaged, or is no store.
    Corrupt,
    /// Something is where a store or a backup is to be made: nothing is overwritten.
    Exists,
    /// There is no store, or no backup, where one was expected.
    Absent,
    /// The medium failed, is full or refuses writes. What was being written is not stored.
    Io,
    /// The server of the store cannot be reached, is no master, or did not answer in time. What was being written
    /// may be stored, or may be yet. It is asked again by itself.
    Unavailable,
    /// The server of the store throws out what it holds where its memory ends, which would be to forget silently.
    Evicting,
    /// A setting of the store makes no sense.
    Invalid,
}

impl StoreError {
    /// A failure of this kind. The message names no content: it is logged.
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// With what caused it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}
