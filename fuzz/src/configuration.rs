//! The configuration file: trusted, but edited by hand and templated by machines.

use std::collections::BTreeSet;

use tokenward_server::fuzzing;

/// What the one environment variable that is set holds. No message may repeat it, since it may be a secret.
const CANARY: &str = "canary of the environment";

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // What stands in the file itself, as the name of a member, may be repeated.
    if text.contains(CANARY) {
        return;
    }
    for dev in [false, true] {
        let outcome = fuzzing::configuration(text, dev, &[("NAME", CANARY)]);
        if let Ok(unusable) = &outcome {
            assert!(
                unusable.is_empty(),
                "accepted, and refused by the library: {unusable:?}"
            );
        }
        if let Err(problems) = &outcome {
            assert!(!problems.is_empty(), "refused without a word");
            let lines = text.split(['\n', '\r']).count();
            for problem in problems {
                assert!(!problem.text.contains(CANARY), "{}", problem.text);
                assert!(
                    !problem.text.contains("the default"),
                    "a default that is refused: {}",
                    problem.text
                );
                if let Some((line, column)) = problem.place {
                    assert!(
                        (1..=lines + 1).contains(&line) && column >= 1,
                        "{line}:{column} of {lines} lines"
                    );
                }
            }
            let distinct: BTreeSet<_> = problems
                .iter()
                .map(|problem| (&problem.text, problem.place))
                .collect();
            assert_eq!(distinct.len(), problems.len(), "said twice");
        }
        assert_eq!(
            outcome,
            fuzzing::configuration(text, dev, &[("NAME", CANARY)]),
            "read differently again"
        );
    }
}
