//! Which of the recipe's modalities the objects that were read had, to tell of those that none had,
//! and of parts of them that none had: a field or column that is named wrong leaves no other trace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::batch::Row;
use super::dataset::Dataset;
use super::objects::Objects;
use crate::error::Result;
use crate::observation::Observation;
use crate::progress;
use crate::recipe::Modalities;
use crate::seam::{Modality, nearest};
use crate::stop;

/// Training objects that are looked at before training for a modality that was not met yet.
const LOOKED_AT: u64 = 256;
/// How long at most.
const LONGEST: Duration = Duration::from_secs(10);
/// Objects whose fields and labels are remembered by name.
const NAMED: usize = 512;
/// Most names that are told.
const LISTED: usize = 60;

/// What was met in the objects read so far.
pub(super) struct Met {
    objects: AtomicUsize,
    modalities: BTreeMap<String, AtomicBool>,
    /// Fields and labels of the first objects.
    names: Mutex<BTreeSet<String>>,
}

impl Met {
    pub(super) fn none_of(modalities: &Modalities) -> Self {
        let modalities = modalities.keys().map(|name| (name.clone(), AtomicBool::new(false)));
        let (objects, names) = Default::default();
        Self { objects, modalities: modalities.collect(), names }
    }

    /// Takes in an object that became `row`.
    pub(super) fn note(&self, object: &Observation, row: &Row) {
        for met in row.iter().filter_map(|(name, _)| self.modalities.get(name)) {
            if !met.load(Ordering::Relaxed) {
                met.store(true, Ordering::Relaxed);
            }
        }
        if self.objects.fetch_add(1, Ordering::Relaxed) < NAMED {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.extend(object.fields.keys().chain(object.labels.keys()).cloned());
        }
    }

    fn unmet(&self) -> impl Iterator<Item = &str> {
        let unmet = self.modalities.iter().filter(|(_, met)| !met.load(Ordering::Relaxed));
        unmet.map(|(name, _)| name.as_str())
    }

    /// What the modalities that were met did not see: see [`Modality::unseen`].
    fn unseen<'a>(
        &'a self,
        modalities: &'a Modalities,
    ) -> impl Iterator<Item = (&'a str, (String, String))> {
        let met = self.modalities.iter().filter(|(_, met)| met.load(Ordering::Relaxed));
        met.filter_map(|(name, _)| Some((name.as_str(), modalities.get(name)?.unseen())))
            .flat_map(|(name, unseen)| unseen.into_iter().map(move |what| (name, what)))
    }
}

/// Why objects with these fields and labels may lack `modality`: what it reads that they lack.
pub(crate) fn why_lacking(modality: &dyn Modality, names: &BTreeSet<String>) -> String {
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some(example) = modality.example() else { return listed(&known) };
    let reads: BTreeSet<String> =
        example.fields.into_keys().chain(example.labels.into_keys()).collect();
    let lacking = reads.iter().filter(|name| !names.contains(*name));
    let lacking: Vec<_> =
        lacking.map(|name| format!("{name:?}{}", nearest(name, &known))).collect();
    let why = match lacking.is_empty() {
        true => {
            let reads: Vec<_> = reads.iter().map(|name| format!("{name:?}")).collect();
            format!("what it reads is there ({}), but not as it asks for it", reads.join(", "))
        }
        false => format!("of what it reads there is no {}", lacking.join(", no ")),
    };
    format!("{why}; {}", listed(&known))
}

/// That there is no field or label `name`, where none of `names` is it.
fn why_unseen(name: &str, names: &BTreeSet<String>) -> String {
    if names.contains(name) {
        return String::new();
    }
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    format!(": there is no {name:?}{}; {}", nearest(name, &known), listed(&known))
}

fn listed(known: &[&str]) -> String {
    let more = match known.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match known.is_empty() {
        true => "there are neither fields nor labels".to_owned(),
        false => format!("there are {}{more}", known[..known.len().min(LISTED)].join(", ")),
    }
}

impl Objects {
    /// Warns of the modalities that no object read so far had, and of what those that some had did
    /// not see.
    pub(crate) fn tell_unmet(&self) {
        let readings = self.met.objects.load(Ordering::Relaxed);
        if readings == 0 {
            return;
        }
        let names = self.met.names.lock().unwrap_or_else(PoisonError::into_inner);
        for name in self.met.unmet() {
            let why = match self.modalities.get(name) {
                Some(modality) if self.source.tokenised().is_none() => {
                    format!(": {}", why_lacking(modality.as_ref(), &names))
                }
                _ => ", as they were converted".to_owned(),
            };
            progress::warn(&format!(
                "modality.{name}: none of the objects read so far has it ({readings} readings){why}"
            ));
        }
        for (modality, (name, what)) in self.unseen() {
            let why = why_unseen(&name, &names);
            progress::warn(&format!(
                "modality.{modality}: none of the objects read so far has {what} ({readings} \
                 readings){why}"
            ));
        }
    }

    /// As [`Met::unseen`]; nothing where the objects were tokenised before.
    fn unseen(&self) -> impl Iterator<Item = (&str, (String, String))> {
        let own = self.source.tokenised().is_none();
        own.then(|| self.met.unseen(&self.modalities)).into_iter().flatten()
    }
}

impl Dataset {
    /// As [`Objects::tell_unmet`].
    pub(crate) fn tell_unmet(&self) {
        self.objects().tell_unmet();
    }

    /// Looks for what [`tell_unmet`](Self::tell_unmet) tells of in the objects that training begins
    /// with, a few hundred at most, and tells what none has. Nothing is fetched for it.
    ///
    /// # Errors
    /// What ends the work: see [`Objects::read`].
    pub(crate) fn look_for_modalities(&self) -> Result<()> {
        let (objects, started) = (self.objects(), Instant::now());
        let here =
            if self.all_at_hand() { LOOKED_AT.min(self.splits.train.len() as u64) } else { 0 };
        for position in 0..here {
            let all = objects.met.unmet().next().is_none() && objects.unseen().next().is_none();
            if all || started.elapsed() > LONGEST || stop::asked() {
                break;
            }
            match objects.read(self.draw(position, 0) as usize) {
                Err(error) if error.ends_work() => return Err(error),
                // Those that cannot be used are counted when training meets them.
                _ => {}
            }
        }
        self.tell_unmet();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{Array, Label};
    use crate::tokens::{Positions, TokenSpec, Tokens, Values};

    /// Reads a field and a label.
    struct Reader;

    impl Modality for Reader {
        fn spec(&self) -> TokenSpec {
            let values = Values::Codes { vocabulary: 2 };
            let positions = Positions::Index { max: 1 };
            TokenSpec { values, positions, loss_weight: 1.0, max_tokens: 1 }
        }

        fn tokenise(&self, _: &Observation) -> Result<Option<Tokens>> {
            Ok(None)
        }

        fn detokenise(&self, _: &Tokens) -> Result<Array> {
            Array::new(vec![0], crate::observation::Data::U8(Vec::new()))
        }

        fn example(&self) -> Option<Observation> {
            let labels = ["z_phot", "mag"].map(|name| (name.to_owned(), Label::Number(0.5)));
            Some(Observation { labels: labels.into(), ..Observation::default() })
        }

        fn unseen(&self) -> Vec<(String, String)> {
            vec![("z_phot".to_owned(), "a redshift".to_owned())]
        }
    }

    #[test]
    fn what_is_lacking_is_named_with_what_is_nearest() {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect();
        let why = why_lacking(&Reader, &names(&["mag", "z_photo", "id"]));
        assert!(why.contains("no \"z_phot\" (did you mean \"z_photo\"?)"), "{why}");
        assert!(!why.contains("no \"mag\"") && why.contains("there are id, mag, z_photo"), "{why}");
        let why = why_lacking(&Reader, &names(&["mag", "z_phot"]));
        assert!(why.contains("(\"mag\", \"z_phot\"), but not as it asks"), "{why}");
        assert!(why_lacking(&Reader, &names(&[])).contains("neither fields nor labels"));
    }

    #[test]
    fn a_modality_is_met_once_an_object_has_it() {
        let made: Box<dyn Modality> = Box::new(Reader);
        let modalities = Modalities::from([("a".to_owned(), made)]);
        let met = Met::none_of(&modalities);
        met.note(&Observation::default(), &Row::new());
        assert_eq!(met.unmet().collect::<Vec<_>>(), ["a"]);
        assert_eq!(met.unseen(&modalities).count(), 0, "all of it is lacking");
        met.note(&Observation::default(), &vec![("a".to_owned(), Tokens::default())]);
        assert_eq!(met.unmet().count(), 0);
        let what = ("z_phot".to_owned(), "a redshift".to_owned());
        assert_eq!(met.unseen(&modalities).collect::<Vec<_>>(), [("a", what)]);
    }

    #[test]
    fn a_name_that_is_not_there_is_told() {
        let names = ["mag", "z_photo"].map(str::to_owned).into();
        assert_eq!(why_unseen("mag", &names), "");
        let why = why_unseen("z_phot", &names);
        assert!(why.contains("no \"z_phot\" (did you mean \"z_photo\"?)"), "{why}");
    }
}
