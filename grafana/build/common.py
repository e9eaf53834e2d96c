"""What all dashboards share: series with the instance filter, panels with a unit and a description, variables, links.

Rules that hold by construction, and that `tests/peers/grafana` checks once more on the generated files: every panel has a
description that ends in what to do, every panel has a unit, every query names the data source by its variable and filters by
instance, counters are only seen through `rate` or `increase`, and the range of a rate is Grafana's own `$__rate_interval`.
"""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, statetimeline, table
from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PREFIX = "estafette_"
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "estafette"
RANGE = "$__rate_interval"

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "text"

# Dashboards, in the order of the links at the top of each: uid, title.
OVERVIEW = ("estafette-overview", "Estafette / Overview")
CAMPAIGN = ("estafette-campaign", "Estafette / Campaign")
CHANNELS = ("estafette-channels", "Estafette / Channels")
JOURNAL = ("estafette-journal", "Estafette / Journal and storage")
TRACKING = ("estafette-tracking", "Estafette / Tracking")
PROCESS = ("estafette-process", "Estafette / Process")
ALL = [OVERVIEW, CAMPAIGN, CHANNELS, JOURNAL, TRACKING, PROCESS]


# --- expressions -------------------------------------------------------------------------------------------------------


def other(name, *matchers):
    """A selector of a series that Prometheus makes itself, on the chosen instances."""
    chosen = ",".join(['instance=~"$instance"', *matchers])
    return f"{name}{{{chosen}}}"


def series(name, *matchers):
    """A selector of one of our series (without the prefix) on the chosen instances."""
    return other(PREFIX + name, *matchers)


def rate(name, *matchers, window=RANGE):
    return f"rate({series(name, *matchers)}[{window}])"


def increase(name, *matchers, window=RANGE):
    return f"increase({series(name, *matchers)}[{window}])"


def by(labels, expression, how="sum"):
    """An aggregation; without labels, over everything."""
    return f"{how} by ({labels}) ({expression})" if labels else f"{how}({expression})"


def quantile(q, name, labels, *matchers, window=RANGE):
    """A quantile of a histogram, by labels."""
    inner = by(f"{labels}, le" if labels else "le", rate(f"{name}_bucket", *matchers, window=window))
    return f"histogram_quantile({q}, {inner})"


def say(what, bad):
    """A description: what the panel shows, and what to do when it looks bad."""
    return f"{what}\n\n**If it looks bad:** {bad}"


# --- queries -----------------------------------------------------------------------------------------------------------


@dataclass
class Query:
    expression: str
    legend: str = ""
    # One value of now, and not a line: for tables and single values.
    now: bool = False
    # `table` or `heatmap`, if not lines.
    shape: PromQueryFormat = PromQueryFormat.TIME_SERIES


def percentiles(name, *matchers):
    """The middle of a histogram and its slow end, as two lines."""
    return [Query(quantile(0.5, name, "", *matchers), "half"), Query(quantile(0.99, name, "", *matchers), "99 of 100")]


def with_queries(panel, queries):
    for index, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend or "__auto")
        target = target.ref_id(chr(ord("A") + index)).format(query.shape).datasource(SOURCE)
        target = target.instant() if query.now else target.range()
        panel = panel.with_target(target)
    return panel


def finished(panel, title, unit, description, queries, width, height):
    panel = panel.title(title).description(description).datasource(SOURCE).span(width).height(height)
    if unit:
        panel = panel.unit(unit)
    return with_queries(panel, queries)


# --- panels ------------------------------------------------------------------------------------------------------------


def steps(*pairs):
    """Thresholds as (from, colour); the first from nothing on."""
    made = [model.Threshold(value=value, color=color) for value, color in pairs]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def words(**by_value):
    """Words for numbers: `words(_0=("fine", GREEN), _1=("failed", RED))`."""
    options = {
        key.lstrip("_"): model.ValueMappingResult(text=text, color=color, index=index)
        for index, (key, (text, color)) in enumerate(by_value.items())
    }
    return [model.ValueMap(options=options)]


def number(title, unit, description, query, *, thresholds=None, mappings=None, width=4, height=4, nothing=None,
           label=False, decimals=None, link=None, graph=False):
    """One number (or, with `label`, the name of the series) of now, coloured by thresholds."""
    panel = stat.Panel()
    panel = panel.color_mode(common_model.BigValueColorMode.BACKGROUND if thresholds or mappings or label
                             else common_model.BigValueColorMode.NONE)
    panel = panel.graph_mode(common_model.BigValueGraphMode.AREA if graph else common_model.BigValueGraphMode.NONE)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    panel = panel.orientation(common_model.VizOrientation.AUTO).justify_mode(common_model.BigValueJustifyMode.AUTO)
    if label:
        panel = panel.text_mode(common_model.BigValueTextMode.NAME)
        panel = panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(BLUE))
    elif thresholds:
        panel = panel.thresholds(thresholds)
    else:
        panel = panel.thresholds(steps((None, BLUE)))
    if mappings:
        panel = panel.mappings(mappings)
    if nothing:
        panel = panel.no_value(nothing)
    if decimals is not None:
        panel = panel.decimals(decimals)
    if link:
        panel = panel.data_links([link])
    queries = query if isinstance(query, list) else [query]
    if not graph:
        for each in queries:
            each.now = True
    return finished(panel, title, unit, description, queries, width, height)


def lines(title, unit, description, *queries, width=12, height=8, stacked=False, least=0.0, most=None, dashed=None,
          thresholds=None, log=False, steps_drawn=False, nothing=None):
    """Lines over time. `dashed` is a pattern of names of limits, which are drawn dashed and not filled."""
    panel = timeseries.Panel().fill_opacity(60.0 if stacked else 8.0).line_width(1.0 if stacked else 2.0)
    panel = panel.show_points(common_model.VisibilityMode.NEVER).span_nulls(False)
    panel = panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    legend = common.VizLegendOptions().show_legend(True).display_mode(common_model.LegendDisplayMode.TABLE)
    legend = legend.placement(common_model.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"])
    panel = panel.legend(legend)
    panel = panel.tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI)
                          .sort(common_model.SortOrder.DESCENDING))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    if least is not None:
        panel = panel.min(least)
    if most is not None:
        panel = panel.max(most)
    if steps_drawn:
        panel = panel.line_interpolation(common_model.LineInterpolation.STEP_AFTER)
    if log:
        panel = panel.scale_distribution(common.ScaleDistributionConfig()
                                         .type(common_model.ScaleDistribution.LOG).log(10.0)).min(None)
    if thresholds:
        panel = panel.thresholds(thresholds)
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig()
                                       .mode(common_model.GraphThresholdsStyleMode.DASHED))
    if nothing:
        panel = panel.no_value(nothing)
    if dashed:
        panel = panel.override_by_regexp(dashed, [
            model.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [10, 10]}),
            model.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
            model.DynamicConfigValue(id_val="custom.stacking", value={"mode": "none", "group": "limit"}),
            model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": "red"}),
        ])
    return finished(panel, title, unit, description, list(queries), width, height)


def heat(title, description, name, *matchers, width=12, height=8, unit="s"):
    """A heat map of a histogram: how many values fell in each bucket, over time."""
    query = Query(by("le", increase(f"{name}_bucket", *matchers)), "{{le}}", shape=PromQueryFormat.HEATMAP)
    color = heatmap.HeatmapColorOptions().mode(heatmap_model.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    color = color.scale(heatmap_model.HeatmapColorScale.EXPONENTIAL).exponent(0.5).reverse(False).fill("dark-orange")
    panel = heatmap.Panel().calculate(False).color(color).cell_gap(1).show_value(common_model.VisibilityMode.NEVER)
    panel = panel.filter_values(heatmap.FilterValueRange().le(1e-9))
    linear = common.ScaleDistributionConfig().type(common_model.ScaleDistribution.LINEAR)
    panel = panel.scale_distribution(linear)
    panel = panel.y_axis(heatmap.YAxisConfig().unit(unit))
    panel = panel.rows_frame(heatmap.RowsHeatmapOptions().layout(common_model.HeatmapCellLayout.AUTO))
    panel = panel.show_legend().mode(common_model.TooltipDisplayMode.SINGLE).show_y_histogram()
    return finished(panel, title, unit, description, [query], width, height)


def bars(title, unit, description, *queries, width=12, height=8, thresholds=None, most=None, nothing=None):
    """Horizontal bars of now, one a series."""
    panel = bargauge.Panel().orientation(common_model.VizOrientation.HORIZONTAL)
    panel = panel.display_mode(common_model.BarGaugeDisplayMode.BASIC).show_unfilled(True).min(0.0)
    panel = panel.value_mode(common_model.BarGaugeValueMode.COLOR)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    panel = panel.thresholds(thresholds or steps((None, BLUE)))
    if most is not None:
        panel = panel.max(most)
    if nothing:
        panel = panel.no_value(nothing)
    for query in queries:
        query.now = True
    return finished(panel, title, unit, description, list(queries), width, height)


def states(title, description, *queries, mappings, width=24, height=6, nothing=None):
    """What was so at which time, as coloured bands."""
    panel = statetimeline.Panel().merge_values(True).show_value(common_model.VisibilityMode.AUTO)
    panel = panel.row_height(0.8).fill_opacity(70).line_width(0).mappings(mappings)
    panel = panel.legend(common.VizLegendOptions().show_legend(False)
                         .display_mode(common_model.LegendDisplayMode.LIST)
                         .placement(common_model.LegendPlacement.BOTTOM).calcs([]))
    if nothing:
        panel = panel.no_value(nothing)
    return finished(panel, title, "none", description, list(queries), width, height)


@dataclass
class Column:
    """A column of a table: a query that gives one row for each value of the table's key."""
    name: str
    expression: str
    unit: str = "short"
    decimals: int | None = None
    # Drawn as a bar up to 1.
    bar: bool = False


def rows(title, description, key, columns, *, extra=(), width=24, height=8, link=None, key_title=None, nothing=None):
    """A table of now with a row for each value of the label `key`. `extra` are (label, expression, title): the value of
    that label stands in a column of its own."""
    panel = table.Panel().show_header(True).cell_height(common_model.TableCellHeight.SM).filterable(True)
    queries, order, renamed, hidden = [], {key: 0}, {key: key_title or key.capitalize()}, {}
    for label, expression, column in extra:
        queries.append(Query(expression, now=True, shape=PromQueryFormat.TABLE))
        order[label], renamed[label] = len(order), column
    for column in columns:
        queries.append(Query(column.expression, now=True, shape=PromQueryFormat.TABLE))
    # Names that Grafana gives to the values after joining.
    for index, _ in enumerate(queries):
        name = f"Value #{chr(ord('A') + index)}"
        if index < len(extra):
            hidden[name] = True
        else:
            order[name], renamed[name] = len(order), columns[index - len(extra)].name
        hidden[f"Time {index + 1}"] = True
    hidden["Time"] = True
    panel = panel.transformations([
        model.DataTransformerConfig(id_val="joinByField", options={"byField": key, "mode": "outer"}),
        model.DataTransformerConfig(id_val="organize", options={
            "excludeByName": hidden, "indexByName": order, "renameByName": renamed}),
    ])
    for column in columns:
        properties = [model.DynamicConfigValue(id_val="unit", value=column.unit)]
        if column.decimals is not None:
            properties.append(model.DynamicConfigValue(id_val="decimals", value=column.decimals))
        if column.bar:
            properties += [
                model.DynamicConfigValue(id_val="min", value=0), model.DynamicConfigValue(id_val="max", value=1),
                model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "gauge", "mode": "basic"}),
            ]
        panel = panel.override_by_name(column.name, properties)
    if link:
        panel = panel.override_by_name(key_title or key.capitalize(), [
            model.DynamicConfigValue(id_val="links", value=[link])])
    if nothing:
        panel = panel.no_value(nothing)
    return finished(panel, title, "short", description, queries, width, height)


def text_link(title, dashboard_of, variable, value="${__value.text:percentencode}"):
    """A link of a table's cell to another dashboard, with a variable set. Without a format Grafana leaves `+`, `&` and `#` as
    they are, which mean something else in an address."""
    return {"title": title, "targetBlank": False,
            "url": f"/d/{dashboard_of[0]}?var-{variable}={value}&${{__url_time_range}}&${{instance:queryparam}}"
                   "&${datasource:queryparam}"}


# --- dashboards --------------------------------------------------------------------------------------------------------


def variable(name, label, description, query, *, everything=True):
    """A variable with values of a label. Several may be chosen of each: only of such variables Grafana escapes the values for
    a regular expression, so that names with brackets, plus signs or apostrophes are found."""
    made = dashboard.QueryVariable(name).label(label).description(description).datasource(SOURCE)
    made = made.query({"query": query, "refId": f"variable-{name}", "qryType": 1})
    made = made.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    made = made.multi(True)
    if everything:
        made = made.include_all(True).all_value(".*")
        made = made.current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    return made


def board(of, description, *, span="now-1h", refresh="10s"):
    """A dashboard with the variables and links that each has."""
    uid, title = of
    made = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).timezone("browser")
    made = made.time(span, "now").refresh(refresh).tooltip(model.DashboardCursorSync.CROSSHAIR).editable().version(1)
    made = made.with_variable(
        dashboard.DatasourceVariable("datasource").label("Data source").description("The Prometheus that scrapes the engine.")
        .type("prometheus").current(model.VariableOption(selected=True, text="default", value="default")))
    made = made.with_variable(variable(
        "instance", "Instance", "The engines to look at, as Prometheus names them.",
        f"label_values({PREFIX}build, instance)"))
    for uid, name in ALL:
        if uid == of[0]:
            continue
        link = dashboard.DashboardLink(name.split(" / ")[1]).type(model.DashboardLinkType.LINK).url(f"/d/{uid}")
        made = made.link(link.icon("dashboard").tooltip(f"To {name}").keep_time(True).include_vars(True))
    return made


def numbered(made):
    """The dashboard with an id for each panel, in reading order."""
    built = made.build()
    for index, panel in enumerate(built.panels or []):
        panel.id_val = index + 1
    return built


def row(title):
    return dashboard.Row(title)
