//! Typed rows to a snapshot: closes types over what they are made of, and reasons over what a use leads to.
//!
//! Owns: the graph below. May not: leave out what it does not know; an oid that nothing explains is a reason itself.
//!
//! ```text
//! node = (relation, event); an edge leads to what a use also does:
//!   (R, any)                → (R, read)
//!   (parent, e)             → (child, e)                inheritance and partitions
//!   (partitioned, update)   → (child, insert | delete)  a row may move
//!   (R, read)               → (R, partition key) → (ancestor, partition key)
//!   (referenced, delete)    → (referencing, delete | update)    ON DELETE CASCADE | SET NULL, SET DEFAULT
//!   (referenced, update)    → (referencing, update)             ON UPDATE likewise
//!   (referenced, truncate)  → (referencing, truncate)           TRUNCATE … CASCADE
//!   both of a foreign key   → (the other, read)
//!   (R, e)                  → (S, read)                 a sub-select in an expression of R
//! ```
//! Reasons flow against the edges, breadth first, so each node keeps one of its nearest.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::functions::{Functions, category};
use super::load::{LoadError, Named, Raw, RawEverywhere, RawExpression, RawLink, RawType};
use super::parts::{Event, FunctionName, Relation, Relations, Routine, Type, TypeId};
use super::reviewed::Reviewed;
use super::tree::View;
use super::{FIRST_USER_OID, Snapshot, computed, keys, kin};

/// The bit of a mask that says: also at COMMIT.
pub(super) const AT_COMMIT: u8 = 64;

/// A hazard's mask: no code, but row security.
pub(super) const ROW_SECURITY: u8 = 128;

const EVENTS: usize = Event::ALL.len();

pub(super) fn build(mut raw: Raw, epoch: u64) -> Result<Snapshot, LoadError> {
    // A row can be handed around whole: the row type is a type of the relation.
    let rows = raw.types.iter().filter(|found| found.relation != 0).map(|found| (found.relation, found.oid));
    raw.column_types.extend(rows);
    let reviewed = &Reviewed::take_out(&mut raw);
    let functions = Functions::new(&raw, reviewed);
    let mut types = Types::new(&raw)?;
    types.find_own_code(&raw, &functions);
    types.close(&raw);
    let mut graph = Graph::new(&raw, &types)?;
    graph.seed(&raw, &functions, &types);
    graph.link(&raw);
    graph.spread();
    graph.defer(&raw);

    let mut views = std::mem::take(&mut raw.views);
    let functions = Functions::new(&raw, reviewed);
    for view in views.values_mut() {
        view.code = view_code(view, &functions, &types);
    }

    let mut of_keys = std::mem::take(&mut raw.keys);
    of_keys.extend(computed::keys(&raw));
    let unreviewed = raw.builtins.iter().filter(|routine| category(routine).is_none()).cloned();
    let mut operators: HashMap<Arc<str>, Vec<_>> = HashMap::new();
    for (name, operator, _) in &raw.operators {
        operators.entry(name.clone()).or_default().push(operator.clone());
    }
    Ok(Snapshot {
        epoch,
        server_version_num: raw.server_version_num,
        database: raw.database.clone(),
        schemas: raw.schemas.iter().cloned().collect(),
        everywhere: raw.everywhere().or_else(|| raw.cast_between_builtins()),
        text_search: raw.text_search(),
        defines: raw.defines(),
        at_commit: graph.at_commit.take(),
        print: [0; 32],
        event_trigger: raw
            .event_triggers
            .first()
            .map(|(name, function)| format!("event trigger {name} → {function}").into()),
        unreviewed_functions: by_name(unreviewed),
        unreviewed_operators: raw.unreviewed_operators(),
        operators,
        names: raw.relations.iter().map(|r| (r.oid, (r.schema.clone(), r.name.clone()))).collect(),
        views,
        row_policies: keys::grouped(std::mem::take(&mut raw.row_policies)),
        remarks: std::mem::take(&mut raw.remarks),
        marks: Arc::default(),
        keys: keys::by_relation(of_keys),
        stamps: std::mem::take(&mut raw.stamps),
        relations: graph.relations()?,
        type_names: types.names(),
        type_oids: types.places,
        types: types.all,
        routines: by_name(raw.routines.into_iter()),
    })
}

/// Why reading a view runs code that is not reviewed, as far as its own definition says.
fn view_code(view: &View, functions: &Functions<'_>, types: &Types) -> Option<Arc<str>> {
    let call = view.functions.iter().find_map(|oid| functions.hazard(*oid));
    let other = || {
        view.others.iter().find_map(|oid| match types.place(*oid) {
            Some(place) => types.all[place].code.as_deref().map(str::to_owned),
            None => functions.object_hazard(*oid),
        })
    };
    call.or_else(other).map(Arc::from)
}

fn by_name(routines: impl Iterator<Item = Routine>) -> HashMap<Arc<str>, Vec<Routine>> {
    let mut names: HashMap<Arc<str>, Vec<Routine>> = HashMap::new();
    for routine in routines {
        names.entry(routine.name.clone()).or_default().push(routine);
    }
    names
}

/// The user types while they are closed.
struct Types {
    all: Vec<Type>,
    places: HashMap<u32, TypeId>,
    /// What each is made of or turns into by itself.
    parts: Vec<Vec<TypeId>>,
    /// The domains over each.
    domains: Vec<Vec<TypeId>>,
    /// The reason of its own, without its parts.
    own: Vec<Option<Arc<str>>>,
    own_functions: Vec<Vec<FunctionName>>,
}

impl Types {
    fn new(raw: &Raw) -> Result<Self, LoadError> {
        let mut places = HashMap::new();
        let mut all = Vec::with_capacity(raw.types.len());
        for (index, found) in raw.types.iter().enumerate() {
            let id = TypeId(u32::try_from(index).unwrap_or(u32::MAX));
            if places.insert(found.oid, id).is_some() {
                return Err(LoadError::Twice(format!(
                    "type {}.{} ({})",
                    found.schema, found.name, found.oid
                )));
            }
            all.push(Type {
                schema: found.schema.clone(),
                name: found.name.clone(),
                oid: found.oid,
                relation: found.relation,
                everywhere: found.letter == 'c' || found.preferred,
                string: found.category == 'S',
                closure: Box::default(),
                taken_from: Box::default(),
                code: None,
                functions: Box::default(),
            });
        }
        let count = all.len();
        Ok(Self {
            all,
            places,
            parts: vec![Vec::new(); count],
            domains: vec![Vec::new(); count],
            own: vec![None; count],
            own_functions: vec![Vec::new(); count],
        })
    }

    fn place(&self, oid: u32) -> Option<usize> {
        self.places.get(&oid).map(|id| id.index())
    }

    fn names(&self) -> HashMap<Arc<str>, Vec<TypeId>> {
        let mut names: HashMap<Arc<str>, Vec<TypeId>> = HashMap::new();
        for found in &self.all {
            if let Some(id) = self.places.get(&found.oid) {
                names.entry(found.name.clone()).or_default().push(*id);
            }
        }
        names
    }

    fn blame(&mut self, place: usize, what: &str, function: Option<FunctionName>) {
        let found = &self.all[place];
        self.own[place].get_or_insert_with(|| format!("type {}.{} {what}", found.schema, found.name).into());
        self.own_functions[place].extend(function);
    }

    fn find_own_code(&mut self, raw: &Raw, functions: &Functions<'_>) {
        let named = |oid| {
            let user: &&Routine = functions.users.get(&oid)?;
            let (schema, name, arguments) = (user.schema.clone(), user.name.clone(), user.signature.clone());
            Some(FunctionName { schema, name, arguments })
        };
        for (place, found) in raw.types.iter().enumerate() {
            if let Some(oid) = found.own_functions.first().copied() {
                self.blame(place, "is read and written by functions outside the built-ins", named(oid));
            }
        }
        for part in raw.expressions.iter().filter(|part| part.of_type) {
            let Some(place) = self.place(part.owner) else { continue };
            let hazard = match part.what {
                Named::Function => functions.hazard(part.oid),
                Named::Operator | Named::Other => functions.object_hazard(part.oid),
                Named::Relation => Some("reads a relation".to_owned()),
                Named::Type => None, // a part: see `close`
            };
            if let Some(hazard) = hazard {
                self.blame(place, &format!("has {}, which {hazard}", part.holder), named(part.oid));
            }
        }
        for cast in &raw.casts {
            let Some((_, schema, name)) = &cast.function else { continue };
            for oid in [cast.source, cast.target] {
                if let Some(place) = self.place(oid) {
                    let function =
                        FunctionName { schema: schema.clone(), name: name.clone(), arguments: Arc::from("") };
                    self.blame(place, &format!("is cast by {schema}.{name}"), Some(function));
                }
            }
        }
        for entry in &raw.everywhere {
            if let RawEverywhere::Class { of_type, reason, .. } = entry
                && let Some(place) = self.place(*of_type)
            {
                self.blame(place, &format!("is compared by {reason}"), None);
            }
        }
    }

    fn close(&mut self, raw: &Raw) {
        self.link(raw);
        // A domain, array or range counts where what it is made of counts: to a fixpoint, since the chain may be long.
        loop {
            let mut changed = false;
            for (place, found) in raw.types.iter().enumerate() {
                if !self.all[place].everywhere && self.made_of_everywhere(found) {
                    self.all[place].everywhere = true;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        let mut taken_from = vec![Vec::new(); self.all.len()];
        for (place, found) in raw.types.iter().enumerate() {
            let members = self.reach(place, false);
            for taken in self.reach(place, true).iter().filter(|taken| !members.contains(taken)) {
                taken_from[taken.index()].extend(self.places.get(&found.oid));
            }
            let first = members.iter().find(|member| self.own[member.index()].is_some());
            self.all[place].code = first.and_then(|member| self.own[member.index()].clone());
            self.all[place].functions = members
                .iter()
                .flat_map(|member| self.own_functions[member.index()].iter().cloned())
                .collect();
            self.all[place].closure = members.into();
        }
        for (of_user, from) in self.all.iter_mut().zip(taken_from) {
            of_user.taken_from = from.into();
        }
    }

    fn made_of_everywhere(&self, found: &RawType) -> bool {
        let source = match found.letter {
            'd' => found.base,
            'r' | 'm' => found.subtype,
            _ if found.element != 0 => found.element,
            _ => return false,
        };
        source < FIRST_USER_OID || self.place(source).is_some_and(|place| self.all[place].everywhere)
    }

    fn link(&mut self, raw: &Raw) {
        let mut rows: HashMap<u32, Vec<u32>> = HashMap::new();
        for (relation, oid) in &raw.column_types {
            rows.entry(*relation).or_default().push(*oid);
        }
        for (place, found) in raw.types.iter().enumerate() {
            let columns = rows.get(&found.relation).filter(|_| found.relation != 0).into_iter().flatten();
            for oid in [found.element, found.base, found.subtype].iter().chain(columns) {
                self.parts[place].extend(self.places.get(oid));
            }
            // An array of a reached type is reached: `ARRAY[x]` makes one.
            if let Some(element) = self.place(found.element) {
                self.parts[element].extend(self.places.get(&found.oid));
            }
        }
        for part in raw.expressions.iter().filter(|part| part.of_type && part.what == Named::Type) {
            if let (Some(place), Some(id)) = (self.place(part.owner), self.places.get(&part.oid)) {
                self.parts[place].push(*id);
            }
        }
        for cast in raw.casts.iter().filter(|cast| cast.implicit) {
            match (self.place(cast.source), self.places.get(&cast.target).copied()) {
                (Some(source), Some(target)) => self.parts[source].push(target),
                (None, Some(target)) => self.all[target.index()].everywhere = true,
                (_, None) => {}
            }
        }
        // A value of a type is taken wherever a domain over it is asked for: no part of it, as long as nothing asks.
        for (place, found) in raw.types.iter().enumerate().filter(|(_, found)| found.letter == 'd') {
            if let Some(base) = self.place(found.base) {
                self.domains[base].push(TypeId(u32::try_from(place).unwrap_or(u32::MAX)));
            }
        }
    }

    /// A type and everything behind it, nearest first; with the domains that take it, too.
    fn reach(&self, from: usize, domains: bool) -> Vec<TypeId> {
        let mut members = vec![TypeId(u32::try_from(from).unwrap_or(u32::MAX))];
        let mut seen: HashSet<TypeId> = members.iter().copied().collect();
        let mut next = 0;
        while let Some(member) = members.get(next).copied() {
            next += 1;
            let over = if domains { &self.domains[member.index()][..] } else { &[] };
            for part in self.parts[member.index()].iter().chain(over) {
                if seen.insert(*part) {
                    members.push(*part);
                }
            }
        }
        members
    }
}

/// The graph of the module's doc.
struct Graph {
    relations: Vec<Relation>,
    places: HashMap<u32, usize>,
    /// For each node, the nodes that lead to it.
    into: Vec<Vec<usize>>,
    reasons: Vec<Option<Arc<str>>>,
    at_commit: Option<Arc<str>>,
}

impl Graph {
    fn new(raw: &Raw, types: &Types) -> Result<Self, LoadError> {
        let mut columns: HashMap<u32, Vec<TypeId>> = HashMap::new();
        for (relation, oid) in &raw.column_types {
            if let Some(place) = types.place(*oid) {
                columns.entry(*relation).or_default().extend(types.all[place].closure.iter());
            }
        }
        let mut places = HashMap::new();
        let mut relations = Vec::with_capacity(raw.relations.len());
        for (place, found) in raw.relations.iter().enumerate() {
            if places.insert(found.oid, place).is_some() {
                return Err(LoadError::Twice(format!(
                    "relation {}.{} ({})",
                    found.schema, found.name, found.oid
                )));
            }
            let mut of_columns = columns.remove(&found.oid).unwrap_or_default();
            of_columns.sort_unstable();
            of_columns.dedup();
            let system_schema = matches!(&*found.schema, "pg_catalog" | "information_schema");
            relations.push(Relation {
                schema: found.schema.clone(),
                name: found.name.clone(),
                oid: found.oid,
                kind: found.kind,
                system: system_schema && found.oid < FIRST_USER_OID,
                kin: None,
                types: of_columns.into(),
                columns: raw.columns.get(&found.oid).map(|columns| Arc::from(columns.as_slice())),
                row_security: false,
                reasons: Default::default(),
            });
        }
        kin::fill(&mut relations, &places, &raw.links);
        let nodes = relations.len() * EVENTS;
        Ok(Self {
            relations,
            places,
            into: vec![Vec::new(); nodes],
            reasons: vec![None; nodes],
            at_commit: None,
        })
    }

    fn node(place: usize, event: Event) -> usize {
        place * EVENTS + event.index()
    }

    fn edge(&mut self, from: (usize, Event), to: (usize, Event)) {
        self.into[Self::node(to.0, to.1)].push(Self::node(from.0, from.1));
    }

    fn blame(&mut self, relation: u32, mask: u8, what: &str) {
        let Some(place) = self.places.get(&relation).copied() else { return };
        if mask & ROW_SECURITY != 0 {
            self.relations[place].row_security = true;
        }
        let found = &self.relations[place];
        if found.system {
            return; // views of pg_catalog run built-ins alone; the lists say what they carry
        }
        let reason: Arc<str> = format!("{}.{} {what}", found.schema, found.name).into();
        for event in Event::ALL.into_iter().filter(|event| mask & *event as u8 != 0) {
            self.reasons[Self::node(place, event)].get_or_insert_with(|| reason.clone());
        }
        if mask & AT_COMMIT != 0 {
            self.at_commit.get_or_insert(reason);
        }
    }

    fn seed(&mut self, raw: &Raw, functions: &Functions<'_>, types: &Types) {
        let read = Event::Read as u8;
        for found in &raw.relations {
            if let Some(what) = found.kind.hazard() {
                self.blame(found.oid, read, what);
            }
        }
        for hazard in &raw.hazards {
            self.blame(hazard.relation, hazard.mask, &hazard.reason);
        }
        for part in raw.expressions.iter().filter(|part| !part.of_type) {
            if let Some(what) = self.expression(part, functions, types) {
                self.blame(part.owner, part.mask, &format!("has {}, which {what}", part.holder));
            }
        }
        for (relation, oid) in &raw.column_types {
            let what = match types.place(*oid) {
                Some(place) => match &types.all[place].code {
                    Some(code) => format!("has a column whose {code}"),
                    None => continue,
                },
                None => format!("has a column of type {oid}, which nothing explains"),
            };
            self.blame(*relation, read, &what);
        }
    }

    /// Why one thing that an expression names runs user code; a relation becomes an edge instead.
    fn expression(
        &mut self,
        part: &RawExpression,
        functions: &Functions<'_>,
        types: &Types,
    ) -> Option<String> {
        match part.what {
            Named::Function => functions.hazard(part.oid),
            Named::Operator | Named::Other => functions.object_hazard(part.oid),
            Named::Type if part.oid < FIRST_USER_OID => None,
            Named::Type => match types.place(part.oid) {
                Some(place) => {
                    types.all[place].code.as_ref().map(|code| format!("makes a value whose {code}"))
                }
                None => Some(format!("makes a value of type {}, which nothing explains", part.oid)),
            },
            Named::Relation => {
                let (Some(owner), Some(read)) = (self.places.get(&part.owner), self.places.get(&part.oid))
                else {
                    return Some(format!("reads relation {}, which nothing explains", part.oid));
                };
                let (owner, read) = (*owner, *read);
                for event in Event::ALL.into_iter().filter(|event| part.mask & *event as u8 != 0) {
                    self.edge((owner, event), (read, Event::Read));
                }
                None
            }
        }
    }

    fn link(&mut self, raw: &Raw) {
        for place in 0..self.relations.len() {
            for event in [Event::Insert, Event::Update, Event::Delete, Event::Truncate] {
                self.edge((place, event), (place, Event::Read));
            }
            self.edge((place, Event::Read), (place, Event::PartitionKey));
        }
        for link in &raw.links {
            match *link {
                RawLink::Child { parent, child, partitioned } => self.link_child(parent, child, partitioned),
                RawLink::Key { referenced, referencing, on_delete, on_update, deferrable: _ } => {
                    self.link_key(referenced, referencing, on_delete, on_update);
                }
            }
        }
    }

    fn link_child(&mut self, parent: u32, child: u32, partitioned: bool) {
        let Some(above) = self.places.get(&parent).copied() else { return };
        let Some(below) = self.places.get(&child).copied() else {
            // A child that the snapshot leaves out is another session's temporary table, or nothing that it can explain.
            return self.blame(
                parent,
                Event::Read as u8,
                &format!("has child {child}, which nothing explains"),
            );
        };
        for event in [Event::Read, Event::Insert, Event::Update, Event::Delete, Event::Truncate] {
            self.edge((above, event), (below, event));
        }
        if partitioned {
            self.edge((above, Event::Update), (below, Event::Insert));
            self.edge((above, Event::Update), (below, Event::Delete));
        }
        self.edge((below, Event::PartitionKey), (above, Event::PartitionKey));
    }

    fn link_key(&mut self, referenced: u32, referencing: u32, on_delete: char, on_update: char) {
        let (Some(one), Some(many)) = (self.places.get(&referenced), self.places.get(&referencing)) else {
            return;
        };
        let (one, many) = (*one, *many);
        match on_delete {
            'c' => self.edge((one, Event::Delete), (many, Event::Delete)),
            'n' | 'd' => self.edge((one, Event::Delete), (many, Event::Update)),
            _ => {}
        }
        if matches!(on_update, 'c' | 'n' | 'd') {
            self.edge((one, Event::Update), (many, Event::Update));
        }
        self.edge((one, Event::Truncate), (many, Event::Truncate));
        for event in [Event::Delete, Event::Update] {
            self.edge((one, event), (many, Event::Read));
        }
        for event in [Event::Insert, Event::Update] {
            self.edge((many, event), (one, Event::Read));
        }
    }

    fn spread(&mut self) {
        let mut queue: VecDeque<usize> =
            (0..self.reasons.len()).filter(|node| self.reasons[*node].is_some()).collect();
        while let Some(node) = queue.pop_front() {
            let reason = self.reasons[node].clone();
            for before in std::mem::take(&mut self.into[node]) {
                if self.reasons[before].is_none() {
                    self.reasons[before].clone_from(&reason);
                    queue.push_back(before);
                }
            }
        }
    }

    /// A deferred foreign key queries both of its tables at COMMIT.
    fn defer(&mut self, raw: &Raw) {
        for link in &raw.links {
            let RawLink::Key { referenced, referencing, deferrable: true, .. } = *link else { continue };
            for oid in [referenced, referencing] {
                let Some(place) = self.places.get(&oid).copied() else { continue };
                if let Some(reason) = &self.reasons[Self::node(place, Event::Read)] {
                    self.at_commit
                        .get_or_insert_with(|| format!("a deferrable foreign key, and {reason}").into());
                }
            }
        }
    }

    fn relations(mut self) -> Result<Relations, LoadError> {
        let mut schemas: HashMap<Arc<str>, HashMap<Arc<str>, Relation>> = HashMap::new();
        for (place, mut relation) in std::mem::take(&mut self.relations).into_iter().enumerate() {
            for event in Event::ALL {
                relation.reasons[event.index()] = self.reasons[Self::node(place, event)].take();
            }
            let identity = (relation.schema.clone(), relation.name.clone());
            let names = schemas.entry(identity.0.clone()).or_default();
            if names.insert(identity.1.clone(), relation).is_some() {
                return Err(LoadError::Twice(format!("relation {}.{}", identity.0, identity.1)));
            }
        }
        Ok(Relations(schemas))
    }
}
