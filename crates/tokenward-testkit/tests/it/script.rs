//! Scripts that cannot be read.

use tokenward_testkit::Script;

#[test]
fn what_is_wrong_with_a_script_is_said_with_its_place() {
    for (script, said) in [
        ("", "1:1: the script is empty"),
        ("idps: []", "1:7: `idps` must have 1 to 1000 members"),
        (
            "idps:\n- name: a\n- name: a",
            "3:3: `a` is the name of another one too",
        ),
        ("idps:\n- alg: ES256", "2:3: `name` is missing"),
        (
            "idps:\n- name: a/b",
            "2:9: `name` must be 1 to 64 of A-Z a-z 0-9 _ -",
        ),
        ("idps:\n- name: a\n  alg: none", "3:8: `alg` must be one of RS256"),
        (
            "idps:\n- name: a\n  kyes: 1",
            "3:3: `kyes` is not known here; there are `name`, `alg`",
        ),
        (
            "idps:\n- name: a\n  keys: 0",
            "3:9: `keys` must be a number from 1 to 100",
        ),
        ("idps:\n- name: a\n  name: b", "3:3: `name` is given twice"),
        (
            "idps: [{ name: a, timeline: [{ fault: hang }] }]",
            "1:30: `at` is missing",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5 }] }]",
            "1:36: `at` must be a time",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s }, { at: 5s }] }]",
            "1:42: a step must be later",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s, fault: bang }] }]",
            "1:47: a fault without members must be one of normal, hang",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s, fault: { hang: 1s } }] }]",
            "1:47: a fault with members is one of slow",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s, fault: { slow: 1s, every: 1s } }] }]",
            "1:59: `every` is not known here",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s, fault: { status: 99 } }] }]",
            "1:57: `status` must be a number from 200 to 599",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s, fault: { huge: 1GiB } }] }]",
            "1:55: `huge` must be a size",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s, fault: { redirect: http } }] }]",
            "1:47: a redirect to http needs",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s, certificate: good }] }]",
            "1:53: a certificate needs `tls: true`",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s, flapping: true }] }]",
            "1:50: flapping needs two keys",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s, fault: hang, validators: stuck }] }]",
            "1:65: validators need a fault",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s, keys: turn }] }]",
            "1:46: a change of keys must be one of add",
        ),
        (
            "idps: [{ name: a, timeline: [{ at: 5s, headers: { 'a b': c } }] }]",
            "1:51: not the name of a header",
        ),
        ("idps: &a [*a]", "1:11: aliases are not supported here"),
        ("idps: !x []", "1:10: tags are not supported here"),
        ("idps: [{ name: a }]\n---\nidps: []", "only one document"),
        ("idps: [", "not YAML"),
    ] {
        let error = Script::parse(script).unwrap_err().to_string();
        assert!(error.contains(said), "{script}: {error}");
    }
}
