//! Scripts in `testdata/`: each is run, and what comes out is held against what the file says.

/// Runs every script of a folder; `UPDATE_SCRIPTS=1` writes what happens now into the files instead.
pub(crate) fn check_scripts(folder: &str, run: fn(&str) -> String) {
    let mut failed = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the scripts are in the repository") {
        let path = entry.expect("the folder can be read").path();
        let script = std::fs::read_to_string(&path).expect("a script can be read");
        let result = run(&script);
        count += 1;
        if result == script {
            continue;
        }
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            std::fs::write(&path, result).expect("a script can be written");
        } else {
            let (at, (was, is)) = (script.lines().zip(result.lines()).enumerate())
                .find(|(_, (was, is))| was != is)
                .unwrap_or((script.lines().count(), ("the end", "more")));
            failed.push(format!("{}:{}\n  expected: {was}\n  got:      {is}", path.display(), at + 1));
        }
    }
    assert!(count > 0);
    assert!(failed.is_empty(), "UPDATE_SCRIPTS=1 accepts what happens now\n{}", failed.join("\n"));
}
