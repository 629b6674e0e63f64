//! Where log lines go, and which.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::{Level, LogFormat};

/// What is logged, which can be changed.
pub(crate) struct Log {
    set: Box<dyn Fn(Level, LogFormat) + Send + Sync>,
}

impl Log {
    /// Writes lines from `level` on in `format`, from now on.
    pub(crate) fn set(&self, level: Level, format: LogFormat) {
        (self.set)(level, format);
    }
}

/// Sends log lines to stdout. Call it once, first of all.
///
/// Lines of other crates are never finer than `warn`: below that the HTTP ones write header values, tokens among
/// them.
pub(crate) fn log(level: Level, format: LogFormat) -> Log {
    // Both formats are there, and the filter of one of them lets nothing through.
    let (json_filter, json) = reload::Layer::new(filter(level, format == LogFormat::Json));
    let (text_filter, text) = reload::Layer::new(filter(level, format == LogFormat::Text));
    let json_lines = tracing_subscriber::fmt::layer().with_ansi(false).json();
    let json_lines = json_lines.flatten_event(true).with_current_span(false);
    let text_lines = tracing_subscriber::fmt::layer().with_ansi(false);
    // A second call, as tests of one process make, leaves the first in place.
    let _ = tracing_subscriber::registry()
        .with(json_lines.with_filter(json_filter))
        .with(text_lines.with_filter(text_filter))
        .try_init();
    Log {
        set: Box::new(move |level, format| {
            // It fails only where the call was not the first.
            let _ = json.reload(filter(level, format == LogFormat::Json));
            let _ = text.reload(filter(level, format == LogFormat::Text));
        }),
    }
}

fn filter(level: Level, writes: bool) -> Targets {
    if !writes {
        return Targets::new();
    }
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("tokenward", level)
        .with_target("tokenward_core", level)
        .with_target("tokenward_store", level)
}
