"""Figures: one job a figure, as SVG for the report, PDF for print, and its numbers as CSV."""


rule draw_figure:
    input:
        files=lambda w: figure_inputs(w),
        geometry=f"{BASE}/geometry.json",
    output:
        svg=annexed(f"{BASE}/figures/{{figure}}.svg", "4. Figures", "figure", model="{model}", figure="{figure}"),
        pdf=f"{BASE}/figures/{{figure}}.pdf",
        csv=f"{BASE}/figures/{{figure}}.csv",
    log:
        f"{LOGS}/draw_figure/{{model}}/{{figure}}.log",
    benchmark:
        f"{LOGS}/draw_figure/{{model}}/{{figure}}.tsv"
    threads: 1
    resources:
        mem_mb=memory("draw_figure"),
        runtime=minutes("draw_figure"),
        gpu=0,
    params:
        cfg=lambda w: canonical(figure_settings(w)),
        code=lambda w: code("draw_figure", f"colocate.figures.{w.figure}"),
        env=lambda w: env("draw_figure", f"colocate.figures.{w.figure}"),
    shell:
        command("draw_figure", "", "svg pdf csv", "{wildcards.figure}")
