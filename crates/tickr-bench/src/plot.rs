//! Charts: bars for throughputs, lines over time.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::report::{Figure, Report, Series, short};

/// Draws everything that can be drawn; gives the names of the files.
pub(crate) fn all(report: &Report, folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for scenario in ["enqueue", "drain", "payload"] {
        let figures: Vec<&Figure> =
            report.figures.iter().filter(|figure| figure.scenario == scenario && figure.unit == "messages/s").collect();
        if !figures.is_empty() {
            let file = format!("{scenario}.svg");
            bars(&figures, scenario, &folder.join(&file)).map_err(|error| anyhow!("cannot draw {file}: {error}"))?;
            files.push(file);
        }
    }
    for (number, series) in report.series.iter().enumerate() {
        let file = format!("{}-{}.svg", series.scenario.replace(' ', "-"), number + 1);
        lines(series, &folder.join(&file)).map_err(|error| anyhow!("cannot draw {file}: {error}"))?;
        files.push(file);
    }
    Ok(files)
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// One bar a figure, with its name before and its value behind.
fn bars(figures: &[&Figure], title: &str, file: &Path) -> Drawn {
    const ROW: i32 = 24;
    const NAMES: i32 = 400;
    const BARS: i32 = 380;
    let height = ROW * i32::try_from(figures.len())? + 60;
    let root = SVGBackend::new(file, (u32::try_from(NAMES + BARS + 100)?, u32::try_from(height)?)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(format!("{title}, messages a second"), (10, 12), ("sans-serif", 18)))?;
    let most = figures.iter().map(|figure| figure.median).fold(1.0, f64::max);
    let mut y = 44;
    for figure in figures {
        #[expect(clippy::cast_possible_truncation, reason = "a number of pixels")]
        let width = (figure.median / most * f64::from(BARS)) as i32;
        let colour = if figure.name.starts_with("tickr") { RGBColor(32, 96, 160) } else { RGBColor(160, 160, 160) };
        root.draw(&Text::new(figure.name.clone(), (10, y + 3), ("sans-serif", 13)))?;
        root.draw(&Rectangle::new([(NAMES, y), (NAMES + width.max(1), y + ROW - 8)], colour.filled()))?;
        root.draw(&Text::new(short(figure.median), (NAMES + width + 6, y + 3), ("sans-serif", 13)))?;
        y += ROW;
    }
    root.present()?;
    Ok(())
}

fn lines(series: &Series, file: &Path) -> Drawn {
    let points = || series.lines.iter().flat_map(|(_, points)| points);
    let right = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1 + f64::MIN_POSITIVE;
    let root = SVGBackend::new(file, (880, 360)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&series.title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart.configure_mesh().x_desc("seconds").y_desc(series.unit).light_line_style(WHITE).draw()?;
    for (number, (name, points)) in series.lines.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        let line = chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    root.present()?;
    Ok(())
}
