use proptest::prelude::*;
use resvg::usvg::{Node, Options, Tree, roxmltree::Document};

use super::*;
use crate::probe::Interval;

fn interval(value: f64, half: f64) -> Interval {
    Interval { value, low: Some(value - half), high: Some(value + half) }
}

/// A name that XML has to be protected from.
const NASTY: &str = "a<b & \"c\">\u{1}";

fn a_spiral() -> Spiral {
    let order = vec![(1, 1), (1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2)];
    let stamp = Stamp { size: 4, rgb: (0..48).map(|k| k * 5).collect() };
    Spiral { grid: 3, order, stamp: Some(stamp) }
}

fn some_losses() -> LossCurves {
    let curve = |k: u32| LossCurve {
        name: format!("{k}M"),
        flops_per_token: 6e6 * f64::from(k),
        points: (0..20).map(|t| (1e8 * f64::from(t), 0.4 - 0.002 * f64::from(t + k))).collect(),
    };
    let mark =
        |name: &str, flops| LossMark { name: name.to_owned(), flops, loss: interval(0.34, 0.003) };
    LossCurves {
        loss_name: NASTY.to_owned(),
        curves: vec![curve(1), curve(5), curve(12)],
        law: Some(FittedLaw {
            floor: 0.3,
            a: 2.0,
            b: interval(0.08, 0.01),
            band: vec![(1e16, 0.38, 0.40), (1e17, 0.36, 0.37), (1e18, 0.34, 0.36)],
            open: true,
        }),
        saturation: Some(mark("saturation", 2e17)),
        forecast: Some(mark(NASTY, 1e18)),
    }
}

fn some_maps() -> PropertyMaps {
    let place = |k: u32| [(k as f32).sin() * 3.0, (k as f32 * 1.7).cos()];
    let places: Vec<[f32; 2]> = (0..200).map(place).collect();
    let values = |k: u32| if k == 7 { f64::NAN } else { f64::from(k) };
    let property = |name: &str, unit: &str| MapProperty {
        name: name.to_owned(),
        unit: unit.to_owned(),
        values: (0..200).map(values).collect(),
    };
    let column = |title: &str| MapColumn { title: title.to_owned(), places: places.clone() };
    PropertyMaps {
        columns: vec![column("1M"), column(NASTY)],
        properties: vec![property("redshift", ""), property("a name longer than its map", "mag")],
        bins: 0,
    }
}

fn some_gains() -> Gains {
    let gain = |k: u32| Gain {
        flops: 1e16 * f64::from(k).exp(),
        gain: interval(1.0 + 0.05 * f64::from(k), 0.02),
    };
    let panel = |task: &str| GainPanel {
        task: task.to_owned(),
        gains: (0..5).map(gain).collect(),
        spearman: interval(0.9, 0.1),
        pearson: Interval { value: f64::NAN, low: None, high: None },
    };
    let panels = ["redshift", NASTY, "g − r", "M*", "smooth?"].map(panel).to_vec();
    Gains { gain_name: "Gain over 1M".to_owned(), panels, columns: 2 }
}

fn some_scores(log: bool) -> ScoreCurves {
    let point = |k: u32| ScorePoint {
        at: if k == 0 { 0.0 } else { 10f64.powi(k as i32) },
        score: interval(0.2 * f64::from(k), 0.05),
    };
    let series = |k: usize| ScoreSeries {
        name: if k == 0 { NASTY.to_owned() } else { format!("property {k}") },
        points: (0..5).map(point).collect(),
    };
    let series = (0..13).map(series).collect();
    ScoreCurves { score_name: "R²".to_owned(), x_name: "Training step".to_owned(), log, series }
}

/// Every figure, filled and empty.
fn all() -> Vec<(&'static str, String)> {
    vec![
        ("spiral", spiral(&a_spiral())),
        ("no spiral", spiral(&Spiral::default())),
        ("losses", loss_curves(&some_losses())),
        ("no losses", loss_curves(&LossCurves::default())),
        ("maps", property_maps(&some_maps())),
        ("no maps", property_maps(&PropertyMaps::default())),
        ("gains", gains(&some_gains())),
        ("no gains", gains(&Gains::default())),
        ("scores, log", score_curves(&some_scores(true))),
        ("scores", score_curves(&some_scores(false))),
        ("no scores", score_curves(&ScoreCurves::default())),
    ]
}

fn tree(svg: &str) -> Tree {
    let options = Options { fontdb: png::fonts(), ..Options::default() };
    Tree::from_str(svg, &options).expect("an SVG")
}

#[test]
fn figures_are_whole_xml_with_words_for_who_does_not_see_them() {
    for (name, svg) in all() {
        let document = Document::parse(&svg).unwrap_or_else(|e| panic!("{name}: {e}"));
        let root = document.root_element();
        assert_eq!(root.attribute("role"), Some("img"), "{name}");
        let text = |tag| root.children().find(|n| n.has_tag_name(tag)).and_then(|n| n.text());
        assert!(text("title").is_some_and(|t| !t.is_empty()), "{name}");
        assert!(!svg.contains("NaN") && !svg.contains("inf "), "{name}: {svg}");
        assert!(!svg.contains("style=") && !svg.contains("<style"), "{name}");
    }
}

fn assert_within(name: &str, group: &resvg::usvg::Group, width: f32, height: f32) {
    for node in group.children() {
        let ends = node.abs_bounding_box();
        let inside = ends.left() >= -0.5
            && ends.top() >= -0.5
            && ends.right() <= width + 0.5
            && ends.bottom() <= height + 0.5;
        match node {
            // What is cut off does not count.
            Node::Group(inner) if inner.clip_path().is_none() => {
                assert_within(name, inner, width, height);
            }
            Node::Group(_) => {}
            _ => assert!(inside, "{name}: {ends:?} of {width} by {height}"),
        }
    }
}

#[test]
fn nothing_leaves_the_sheet_not_even_text() {
    for (name, svg) in all() {
        let tree = tree(&svg);
        assert_within(name, tree.root(), tree.size().width(), tree.size().height());
    }
}

#[test]
fn bitmaps_have_the_size_asked_for_and_are_not_blank() {
    for (name, svg) in all().into_iter().filter(|(name, _)| !name.starts_with("no ")) {
        for scale in [0.5, 2.0] {
            let bytes = png(&svg, scale).expect("a bitmap");
            let bitmap = image::load_from_memory(&bytes).expect("a PNG").to_rgb8();
            let size = tree(&svg).size();
            let side = |length: f32| (f64::from(length) * scale).round() as u32;
            assert_eq!(bitmap.dimensions(), (side(size.width()), side(size.height())), "{name}");
            let white = bitmap.pixels().filter(|p| p.0 == [255; 3]).count();
            let all = bitmap.pixels().len();
            assert!(white > all / 10 && white < all - all / 50, "{name}: {white} of {all} white");
        }
    }
    assert!(png("<svg", 1.0).is_err());
    assert!(png(&spiral(&a_spiral()), 0.0).is_err());
    assert!(png(&spiral(&a_spiral()), 1e9).is_err());
}

/// A stamp's colours are in the bitmap: images are drawn too.
#[test]
fn the_stamp_is_drawn() {
    let red = Stamp { size: 2, rgb: [200, 10, 10].repeat(4) };
    let svg = spiral(&Spiral { stamp: Some(red), ..a_spiral() });
    let bitmap = image::load_from_memory(&png(&svg, 1.0).expect("a bitmap")).expect("a PNG");
    let of_stamp = bitmap.to_rgb8().pixels().filter(|p| p.0 == [200, 10, 10]).count();
    assert!(of_stamp > 10_000, "{of_stamp}");
}

/// Frames (left, top, right, bottom) of the plots of an SVG, and the centres of its circles.
fn frames_and_circles(svg: &str) -> (Vec<[f64; 4]>, Vec<[f64; 2]>) {
    let document = Document::parse(svg).expect("XML");
    let (mut frames, mut circles) = (vec![], vec![]);
    for node in document.descendants() {
        let number = |name: &str| node.attribute(name).and_then(|x| x.parse::<f64>().ok());
        let [x, y, width, height] = ["x", "y", "width", "height"].map(|a| number(a).unwrap_or(0.0));
        if node.has_tag_name("rect") && node.attribute("fill") == Some("none") {
            frames.push([x, y, x + width, y + height]);
        }
        if node.has_tag_name("circle") {
            circles.push([number("cx").expect("a place"), number("cy").expect("a place")]);
        }
    }
    (frames, circles)
}

proptest! {
    #[test]
    fn points_lie_within_their_axes(
        rows in proptest::collection::vec((1.0f64..1e25, -1e3f64..1e3, 0.0f64..10.0), 1..12),
    ) {
        let gain = |&(flops, value, half): &(f64, f64, f64)| {
            Gain { flops, gain: interval(value, half) }
        };
        let panel = GainPanel { gains: rows.iter().map(gain).collect(), ..GainPanel::default() };
        let score = |&(step, value, half): &(f64, f64, f64)| {
            ScorePoint { at: step.floor() - 1.0, score: interval(value, half) }
        };
        let series = ScoreSeries { points: rows.iter().map(score).collect(), ..ScoreSeries::default() };
        let point = |&(tokens, _, half): &(f64, f64, f64)| (tokens, 0.1 + half);
        let curve = LossCurve {
            flops_per_token: 6e6,
            points: rows.iter().map(point).collect(),
            ..LossCurve::default()
        };
        for svg in [
            gains(&Gains { panels: vec![panel.clone(), panel], columns: 2, ..Gains::default() }),
            score_curves(&ScoreCurves { series: vec![series.clone()], log: true, ..ScoreCurves::default() }),
            score_curves(&ScoreCurves { series: vec![series], ..ScoreCurves::default() }),
            loss_curves(&LossCurves { curves: vec![curve], ..LossCurves::default() }),
        ] {
            let (frames, circles) = frames_and_circles(&svg);
            prop_assert!(!frames.is_empty() && !circles.is_empty());
            for [x, y] in circles {
                let inside = |f: &[f64; 4]| f[0] <= x && x <= f[2] && f[1] <= y && y <= f[3];
                prop_assert!(frames.iter().any(inside), "{x} {y} outside {frames:?}");
            }
        }
    }
}

/// Places (left, top, right, bottom) of all words.
fn words(group: &resvg::usvg::Group) -> Vec<(String, [f32; 4])> {
    let of = |node: &Node| match node {
        Node::Group(inner) => words(inner),
        Node::Text(text) => {
            let ends = text.abs_bounding_box();
            let words = text.chunks().iter().map(|chunk| chunk.text()).collect();
            vec![(words, [ends.left(), ends.top(), ends.right(), ends.bottom()])]
        }
        _ => vec![],
    };
    group.children().iter().flat_map(of).collect()
}

/// Names stand clear of one another and of the diamond, wherever a model was foretold and however
/// far off the saturation is; one that is far off leaves the axis to the models.
#[test]
fn no_two_words_of_the_losses_overlap() {
    let curve = |name: &str, flops: f64, end: f64| LossCurve {
        name: name.to_owned(),
        flops_per_token: flops / 1e6,
        points: vec![(5e5, end + 0.01), (1e6, end)],
    };
    for (foretold, saturation) in
        [0.324, 0.3258, 0.3277, 0.332].into_iter().flat_map(|f| [(f, 2e13), (f, 5e17)])
    {
        let mark = |name: &str, flops, loss| LossMark { name: name.to_owned(), flops, loss };
        let svg = loss_curves(&LossCurves {
            loss_name: "validation loss".to_owned(),
            curves: vec![
                curve("demo-S", 6.6e11, 0.33514),
                curve("demo-M", 2.1e12, 0.33081),
                curve("demo-L", 7.7e12, 0.32765),
            ],
            law: Some(FittedLaw {
                floor: 0.32,
                a: 800.0,
                b: interval(0.4, 0.1),
                band: vec![],
                open: false,
            }),
            saturation: Some(mark("saturated from here on", saturation, interval(0.325, 0.0))),
            forecast: Some(mark("demo-L, foretold", 7.7e12, interval(foretold, 0.0005))),
        });
        let tree = tree(&svg);
        let mut places = words(tree.root());
        // A text with a rim is drawn twice.
        places.dedup();
        let said = |start: &str| places.iter().any(|(text, _)| text.starts_with(start));
        assert!(said("saturated from here on"), "{saturation}");
        assert_eq!(saturation > 1e15, said("saturated from here on: "), "{saturation}");
        let path =
            svg.split("<path d=\"M").find(|path| path.contains("l5.5 5.5")).expect("a diamond");
        let mut place =
            path.split([' ', 'l']).map(|number| number.parse::<f32>().expect("a place"));
        let mut next = || place.next().expect("a place");
        let (x, y) = (next(), next());
        // A name below a mark is read as the mark's.
        let model = places.iter().find(|(text, at)| text == "demo-L" && at[1] < 340.0);
        let at = model.expect("a name in the upper panel").1;
        let right = if foretold < 0.32765 { at[3] <= y } else { at[1] > y };
        assert!(right, "demo-L at {at:?}, foretold at {y}: {foretold}");
        places.push(("the diamond".to_owned(), [x - 4.0, y + 1.5, x + 4.0, y + 9.5]));
        for (k, (one, a)) in places.iter().enumerate() {
            for (other, b) in &places[..k] {
                let apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
                assert!(apart, "{one:?} {a:?} and {other:?} {b:?} at {foretold}");
            }
        }
    }
}
