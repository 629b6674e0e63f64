use std::{str::FromStr, sync::Arc};

use crate::{Memory, Snapshots, StoreError, StoreErrorKind};

#[cfg(feature = "sqlite")]
const SUPPORTED: &str = "`memory:` and `sqlite:DIRECTORY`";
#[cfg(not(feature = "sqlite"))]
const SUPPORTED: &str = "`memory:`";

/// Which store to open, as configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`
    Memory,
    /// `sqlite:DIRECTORY`, absolute or relative to the working directory.
    #[cfg(feature = "sqlite")]
    Sqlite(std::path::PathBuf),
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    /// # Errors
    ///
    /// [`StoreErrorKind::Url`]. The message repeats the scheme alone: the rest may hold a password.
    fn from_str(url: &str) -> Result<Self, StoreError> {
        let error = |what: String| {
            Err(StoreError::new(
                StoreErrorKind::Url,
                format!("{what}; supported are {SUPPORTED}"),
            ))
        };
        match url.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("memory", _)) => error("a store URL `memory:` has nothing after the colon".to_owned()),
            #[cfg(feature = "sqlite")]
            Some(("sqlite", "")) => error("a store URL `sqlite:` needs a directory".to_owned()),
            #[cfg(feature = "sqlite")]
            Some(("sqlite", directory)) => Ok(Self::Sqlite(directory.into())),
            Some((scheme, _)) => error(format!("there is no store `{scheme}:`")),
            None => error("a store URL begins with a scheme and a colon".to_owned()),
        }
    }
}

impl StoreUrl {
    /// Opens the store, making it where there is none yet.
    ///
    /// # Errors
    ///
    /// As the engine's own `open`.
    pub fn open(&self) -> Result<Arc<dyn Snapshots>, StoreError> {
        match self {
            Self::Memory => Ok(Arc::new(Memory::new())),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(directory) => Ok(Arc::new(crate::Sqlite::open(directory)?)),
        }
    }
}
