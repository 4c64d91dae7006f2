"""The style sheet of the report."""

from __future__ import annotations

STYLE = """
:root{--page:#f6f5f2;--card:#fff;--text:#1d1d1f;--soft:#6b6b70;--line:#e2e0da;
--good:#1a7f4b;--warn:#9a6200;--bad:#b3261e;--before:#c9c6bd;--after:#2f6fb3}
@media (prefers-color-scheme:dark){:root{--page:#161618;--card:#212124;
--text:#ececee;--soft:#a0a0a8;--line:#36363b;--good:#5cc98f;--warn:#e0ad4d;--bad:#ff8a80;--before:#55555c;--after:#6ba7e6}}
*{box-sizing:border-box}
body{overflow-wrap:anywhere;margin:0;background:var(--page);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","PingFang SC",
"Microsoft YaHei",sans-serif}
main{max-width:800px;margin:0 auto;padding:20px 14px 60px}
h1{font-size:1.5rem;margin:.2em 0}h2{font-size:1.1rem;margin:0 0 .6em}
h3{font-size:.95rem;margin:1.1em 0 .4em;color:var(--soft)}
header p{margin:.2em 0;color:var(--soft)}
header .state{font-size:1.1rem;font-weight:600}
.state.good,.badge.good{color:var(--good)}.state.warn,.badge.warn{color:var(--warn)}
.state.bad,.badge.bad{color:var(--bad)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:16px 0}
.figure,.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.figure span{display:block;color:var(--soft);font-size:.8rem}
.figure strong{display:block;font-size:1.45rem;line-height:1.25}
.figure small,small{color:var(--soft)}
.card{margin:12px 0}
header ul{margin:.3em 0 .6em;padding-left:1.2em}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th{text-align:left;color:var(--soft);font-weight:500}
th,td{padding:5px 12px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
tbody tr:last-child td{border-bottom:0}
td{overflow-wrap:anywhere}
.badge{font-weight:600;font-size:.85rem;margin-right:8px}
.nowrap,td>.badge:only-child{white-space:nowrap}
code{font:.9em ui-monospace,Menlo,Consolas,monospace}
.chart{font-size:.8rem;color:var(--soft)}
.chart svg{width:100%;height:120px;display:block}
.chart .ends{display:flex;justify-content:space-between}
.chart path{fill:none;vector-effect:non-scaling-stroke;stroke-width:1px}
.chart .axis,.chart .stem{stroke:var(--line)}
.chart .dot{stroke-width:9px;stroke-linecap:round}.chart .dot.pinned{stroke-width:14px}
.chart .dot.good{stroke:var(--good)}.chart .dot.partial{stroke:var(--warn)}
.chart .dot.suspect{stroke:var(--bad)}
.chart rect.good{fill:var(--good)}.chart rect.suspect{fill:var(--bad)}
.legend{margin:.5em 0;font-size:.85rem;color:var(--soft);display:flex;flex-wrap:wrap;gap:4px 16px}
.legend i{display:inline-block;width:10px;height:10px;border-radius:50%;margin-right:6px}
.legend .good{background:var(--good)}.legend .partial{background:var(--warn)}
.legend .suspect{background:var(--bad)}
.legend .before{background:var(--before)}.legend .after{background:var(--after)}
.bar{display:grid;grid-template-columns:minmax(70px,150px) 1fr minmax(170px,auto);gap:10px;align-items:center;
margin:6px 0;font-size:.9rem}
.bar .label{overflow-wrap:anywhere}
.bar .track{display:grid;gap:3px}
.bar i{display:block;height:9px;border-radius:5px;min-width:2px}
.bar .before{background:var(--before)}.bar .after{background:var(--after)}
.bar .value{color:var(--soft);text-align:right;white-space:nowrap}.bar b{color:var(--text)}
.pictures{display:grid;grid-template-columns:1fr 1fr;gap:14px;max-width:100%}
figure{margin:0}
img{width:100%;height:auto;border-radius:10px;border:1px solid var(--line);image-rendering:auto}
figcaption{font-size:.85rem;color:var(--soft);margin-top:4px}
summary{cursor:pointer;color:var(--soft);margin:8px 0}
@media (max-width:560px){
.nowrap,td>.badge:only-child{white-space:normal}
.bar{grid-template-columns:1fr}.bar .value{text-align:left}
thead,td.empty{display:none}
table,tbody,tr,td{display:block}
tbody tr:last-child{border-bottom:0}
tr{padding:8px 0;border-bottom:1px solid var(--line)}
td{border:0;padding:1px 0}
td[data-title]:not([data-title=""])::before{content:attr(data-title) ": ";color:var(--soft)}
}
"""
