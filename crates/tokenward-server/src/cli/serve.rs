//! `tokenward serve`: run the server.

use std::{error::Error as _, path::Path, thread};

use tokenward::random;
use tokio::runtime::Builder;

use super::{Ending, Failure, runtime};
use crate::{
    config::{self, Environment},
    serve,
};

pub(super) fn run(file: Option<&Path>, dev: bool, environment: &Environment) -> Result<Ending, Failure> {
    // The provider of randomness gathers it for as long as a large configuration is read, the first time that it is asked.
    // Without the thread the first one who needs some waits.
    let _ = thread::Builder::new()
        .name("tokenward-random".to_owned())
        .spawn(|| random::system().unit());
    let source = config::Source::new(file, dev, environment);
    let config::Reading { config, files } = source.read(None);
    let config =
        config.map_err(|problems| Failure::usage(format!("the configuration is not valid\n{problems}")))?;
    runtime::run(Builder::new_multi_thread(), serve::run(config, files, source))?.map_err(|error| {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(&format!(": {error}"));
            cause = error.source();
        }
        if error.is_of_configuration() {
            Failure::Usage(message)
        } else {
            Failure::Network(message)
        }
    })?;
    Ok(Ending::Ok)
}
