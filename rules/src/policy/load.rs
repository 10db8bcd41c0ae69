//! From files to a checked policy.
//!
//! Owns: which files belong to a policy, their order, and the hash over them. May not: know what rules mean (read.rs).
//! Fails closed: one error anywhere, in any file, and there is no policy; all errors are told in one run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::document::{Diagnostic, Diagnostics, Document, Located, Shape, Table};
use crate::policy::model::Model;
use crate::policy::packs::{self, Pack};
use crate::policy::read::{Origin, Reader};
use crate::policy::{Policy, lint};

/// Most files that one policy may include.
const INCLUDES_MAX: usize = 256;

static GENERATION: AtomicU64 = AtomicU64::new(1);

/// One file of a policy.
pub(crate) struct Source {
    pub(crate) document: Document,
    pub(crate) origin: Origin,
}

impl Policy {
    /// Reads a policy with everything that it includes.
    ///
    /// # Errors
    /// Every finding in every file, warnings among them, when at least one is an error.
    pub fn load(path: &Path) -> Result<Self, Vec<Diagnostic>> {
        let shown = path.display().to_string();
        let document = Document::read(path, &shown).map_err(|diagnostic| vec![diagnostic])?;
        let name = path.file_name().map_or_else(|| shown.clone(), |name| name.to_string_lossy().into_owned());
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self::from_document(document, &name, Some(&folder))
    }

    /// The entries of a policy that [`Policy::load`] refuses, as far as they could be read, so that what is wrong with them
    /// elsewhere can be told in the same run. Nothing may be judged by them. `None` where the file cannot be read.
    pub fn model_despite_errors(path: &Path) -> Option<Model> {
        let document = Document::read(path, &path.display().to_string()).ok()?;
        // What is wrong was reported by the load that failed.
        let unheard = Diagnostics::new();
        let name = path.file_name()?.to_string_lossy().into_owned();
        read(&sources(document, &name, path.parent(), &unheard), &unheard)
    }

    /// Reads a policy from text, for tests and packs. Files that it includes are looked for in `folder`; without one,
    /// only shipped packs can be included.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn from_text(name: &str, text: &str, folder: Option<&Path>) -> Result<Self, Vec<Diagnostic>> {
        Self::from_document(Document::from_text(name, text), name, folder)
    }

    fn from_document(document: Document, name: &str, folder: Option<&Path>) -> Result<Self, Vec<Diagnostic>> {
        let diagnostics = Diagnostics::new();
        let sources = sources(document, name, folder, &diagnostics);
        let model = read(&sources, &diagnostics);
        let (model, warnings) = diagnostics.finish(model)?;
        Ok(Self {
            model,
            hash: hash(&sources),
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            warnings,
            folder: folder.map(Path::to_path_buf),
            label_memory: super::labelled::LabelMemory::default(),
        })
    }
}

/// The policy itself, then what it includes.
fn sources(document: Document, name: &str, folder: Option<&Path>, diagnostics: &Diagnostics) -> Vec<Source> {
    let included = included_sources(&document, folder, diagnostics);
    let mut sources = vec![Source { document, origin: Origin::main(name) }];
    sources.extend(included);
    sources
}

fn read(sources: &[Source], diagnostics: &Diagnostics) -> Option<Model> {
    let mut reader = Reader::new(diagnostics);
    let mut roots: Vec<(Table<'_>, &Origin)> = Vec::with_capacity(sources.len());
    for source in sources {
        // A file with syntax errors has no root; they are reported, and the other files are still checked.
        let Some(root) = source.document.root(diagnostics) else { continue };
        root.version(1);
        roots.push((root, &source.origin));
    }
    // Groups first: any rule of any file may name them.
    for (root, origin) in &roots {
        reader.groups(root, origin);
    }
    for (root, origin) in &roots {
        reader.rules(root, origin);
    }
    for (root, origin) in &roots {
        reader.observes(root, origin);
    }
    drop(roots);
    let model = reader.finish();
    lint::check(&model, diagnostics);
    Some(model.into_model())
}

/// The files that `include` names, in its order.
fn included_sources(document: &Document, folder: Option<&Path>, diagnostics: &Diagnostics) -> Vec<Source> {
    // This first look at the root reports into a collector of its own: the real reading comes later.
    let unheard = Diagnostics::new();
    let Some(root) = document.root(&unheard) else { return Vec::new() };
    let entries = includes(&root);
    root.abandon();
    // Faults of `include` itself must be heard, once.
    for diagnostic in unheard.into_vec() {
        diagnostics.push(diagnostic);
    }
    let mut sources: Vec<Source> = Vec::with_capacity(entries.len());
    for entry in entries.iter().take(INCLUDES_MAX) {
        match open(&entry.value, folder) {
            Ok(source) if sources.iter().any(|other| other.origin.prefix == source.origin.prefix) => {
                diagnostics.error(
                    &entry.place,
                    "another include has the same name; the name is the prefix of its rules and must be its own",
                );
            }
            Ok(source) => sources.push(source),
            Err(message) => diagnostics.error(&entry.place, message),
        }
    }
    if let Some(beyond) = entries.get(INCLUDES_MAX) {
        diagnostics.error(&beyond.place, format!("a policy includes at most {INCLUDES_MAX} files"));
    }
    sources
}

struct Include {
    file: String,
    allow_permits: bool,
}

fn includes(root: &Table<'_>) -> Vec<Located<Include>> {
    if !root.has("include") {
        return Vec::new();
    }
    let mut entries = Vec::new();
    for item in root.list("include").unwrap_or_default() {
        let place = item.place;
        match item.value {
            Shape::Text(file) => {
                entries.push(Located { value: Include { file, allow_permits: false }, place })
            }
            Shape::Table(table) => {
                let allow_permits = table.boolean("allow_permits").unwrap_or(false);
                if let Some(file) = table.required_string("file") {
                    entries.push(Located { value: Include { file, allow_permits }, place });
                }
            }
            other @ (Shape::Integer(_)
            | Shape::Float(_)
            | Shape::Boolean(_)
            | Shape::Datetime(_)
            | Shape::List(_)) => {
                root.diagnostics().error(
                    &place,
                    format!(
                        "must be a path or {{ file = \"…\", allow_permits = true }}, not {}",
                        other.kind()
                    ),
                );
                other.abandon();
            }
        }
    }
    entries
}

fn open(include: &Include, folder: Option<&Path>) -> Result<Source, String> {
    let Include { file, allow_permits } = include;
    if let Some(name) = file.strip_prefix("packs/") {
        let name = name.strip_suffix(".toml").ok_or("a pack is written packs/NAME.toml")?;
        let pack = packs::find(name)?;
        return Ok(Source {
            document: Document::from_text(file.as_str(), pack.text),
            origin: Origin::pack(pack, *allow_permits || pack.permits_by_default),
        });
    }
    let folder = folder.ok_or("a policy that was not read from a file includes shipped packs only")?;
    let path = folder.join(file);
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(fault) = crate::document::name_fault(&stem) {
        return Err(format!("its file name is the prefix of its rules: {fault}"));
    }
    if packs::PACKS.iter().any(|pack| pack.name == stem) {
        return Err(format!("{stem} is the name of a shipped pack; call the file otherwise"));
    }
    let document = Document::read(&path, file).map_err(|diagnostic| diagnostic.message)?;
    Ok(Source { document, origin: Origin::file(file, &stem, *allow_permits) })
}

/// Domain-separated, every part length-prefixed, so that no two sets of files share a preimage.
fn hash(sources: &[Source]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("pgturnstile policy v1");
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(&(sources.len() as u64).to_le_bytes());
    for source in sources {
        part(source.origin.file.as_bytes());
        part(source.document.text().as_bytes());
    }
    let digest: [u8; 32] = *hasher.finalize().as_bytes();
    digest
}

impl Origin {
    fn main(file: &str) -> Self {
        Self { file: Arc::from(file), prefix: None, permits: true, top: true, pack: None }
    }

    fn pack(pack: &'static Pack, permits: bool) -> Self {
        let name = pack.name;
        Self {
            file: format!("packs/{name}.toml").into(),
            prefix: Some(name.to_owned()),
            permits,
            top: false,
            pack: Some(pack),
        }
    }

    fn file(file: &str, stem: &str, permits: bool) -> Self {
        Self { file: Arc::from(file), prefix: Some(stem.to_owned()), permits, top: false, pack: None }
    }
}
