extension HTMLReport {
  static let style: HTML = """
    :root{--ink:#1c2128;--soft:#59636e;--page:#fff;--card:#f6f8fa;--rule:#d1d9e0;
    --c0:#0969da;--c1:#bc4c00;--c2:#1a7f37;--c3:#8250df;--c4:#bf3989;--c5:#9a6700;--bad:#cf222e;--warn:#9a6700;--good:#1a7f37}
    @media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--page:#0d1117;--card:#161b22;--rule:#30363d;
    --c0:#58a6ff;--c1:#f0883e;--c2:#3fb950;--c3:#bc8cff;--c4:#f778ba;--c5:#d29922;--bad:#ff7b72;--warn:#d29922;--good:#3fb950}}
    *{box-sizing:border-box}
    body{margin:0 auto;max-width:84rem;padding:1rem;background:var(--page);color:var(--ink);
    overflow-wrap:anywhere;font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
    h1{margin:0;font-size:1.6rem}
    h2{margin:2rem 0 .6rem;font-size:1.2rem;border-bottom:1px solid var(--rule)}
    h3{margin:1.2rem 0 .3rem;font-size:1rem}
    header p{margin:.3rem 0 1rem}
    .state{padding:.1rem .6rem;border-radius:1rem;background:var(--c0);color:var(--page);font-weight:600}
    .state.finished{background:var(--good)}.state.failed,.state.dead{background:var(--bad)}.state.stopped{background:var(--warn)}
    .tiles{display:flex;flex-wrap:wrap;gap:.6rem}
    .tiles div{flex:1 0 7rem;padding:.6rem .8rem;background:var(--card);border:1px solid var(--rule);border-radius:.4rem}
    .tiles b{display:block;font-size:1.25rem;font-variant-numeric:tabular-nums}.tiles span{color:var(--soft);font-size:.85rem}
    .health{list-style:none;margin:0;padding:0}
    .health li{padding:.3rem .7rem;margin:.3rem 0;border-left:.3rem solid var(--rule);background:var(--card)}
    .health .ok{border-color:var(--good)}.health .warning{border-color:var(--warn)}.health .alarm{border-color:var(--bad)}
    .charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr));gap:1rem}
    figure{margin:0;padding:.6rem;background:var(--card);border:1px solid var(--rule);border-radius:.4rem}
    figcaption{font-weight:600;font-size:.95rem}
    svg{display:block;width:100%;height:auto}
    svg text{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}
    .grid{stroke:var(--rule);stroke-width:1}
    .line{fill:none;stroke-width:1.8;stroke-linejoin:round}.band{stroke:none;opacity:.18}
    .k0{--c:var(--c0)}.k1{--c:var(--c1)}.k2{--c:var(--c2)}.k3{--c:var(--c3)}.k4{--c:var(--c4)}.k5{--c:var(--c5)}
    .line{stroke:var(--c)}.band,.mark{fill:var(--c)}
    .keys,.note{margin:.2rem 0;font-size:.85rem;color:var(--soft)}
    .keys b{color:var(--ink);font-variant-numeric:tabular-nums}
    .key{display:inline-block;margin-right:1rem}
    .key i{display:inline-block;width:.7rem;height:.7rem;margin-right:.35rem;border-radius:.2rem;background:var(--c)}
    .wide{overflow-x:auto}
    table{border-collapse:collapse;margin:.4rem 0;font-size:.92rem}
    th,td{overflow-wrap:normal;padding:.25rem .8rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--rule)}
    th{color:var(--soft);font-weight:600}td{font-variant-numeric:tabular-nums;min-width:3rem}
    .n{text-align:right}
    pre{overflow-x:auto;padding:.7rem;background:var(--card);border:1px solid var(--rule);font-size:.85rem}
    summary{cursor:pointer;margin:.4rem 0}
    footer{margin:2.5rem 0 1rem;color:var(--soft);font-size:.85rem}

    """
}
