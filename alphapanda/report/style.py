"""The style sheets of a report: ``CSS`` for the card and the page, ``PAGE_CSS`` for what is around the page."""

CSS = """
.ap{--gain:#16906c;--loss:#dc4a5a;--soft:color-mix(in srgb,currentColor 62%,transparent);
--line:color-mix(in srgb,currentColor 14%,transparent);--wash:color-mix(in srgb,currentColor 4%,transparent);
--ink:color-mix(in srgb,currentColor 66%,transparent);color:var(--jp-content-font-color1,inherit);
font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-variant-numeric:tabular-nums;
max-width:1080px}
[data-jp-theme-light=false] .ap,.vscode-dark .ap{--gain:#35b98f;--loss:#f0707c}
.ap *{box-sizing:border-box}
.ap-card{border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:4px 0}
.ap h1{font-size:22px;margin:0 0 2px;font-weight:650;letter-spacing:-.01em;overflow-wrap:anywhere}
.ap h2{font-size:15px;margin:34px 0 10px;font-weight:650}
.ap-name{font-weight:650;font-size:15px;overflow-wrap:anywhere}
.ap-soft{color:var(--soft);font-size:13px;overflow-wrap:anywhere}
.ap-gain{color:var(--gain)}.ap-loss{color:var(--loss)}
.ap-top{display:flex;flex-wrap:wrap;gap:14px 40px;align-items:flex-end;margin:16px 0 6px}
.ap-pnl{font-size:32px;font-weight:650;letter-spacing:-.02em;line-height:1.1}
.ap-tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(122px,1fr));
border:1px solid var(--line);border-radius:8px;overflow:hidden;margin:14px 0}
.ap-tile{padding:9px 12px;box-shadow:0 0 0 .5px var(--line)}
.ap-tile b{display:block;font-size:15px;font-weight:600;white-space:nowrap}
.ap-tile span{color:var(--soft);font-size:12px}
.ap-chart{overflow-x:auto;margin:8px 0}.ap-chart svg{width:100%;min-width:460px;height:auto;display:block}
.ap-chart svg text{font-family:inherit!important}
.ap-alert{border-left:3px solid var(--loss);background:color-mix(in srgb,var(--loss) 9%,transparent);
padding:9px 13px;margin:12px 0;border-radius:0 6px 6px 0;overflow-wrap:anywhere}
.ap-alert b{color:var(--loss)}
.ap .ap-code{display:block;margin:5px 0;white-space:pre-wrap}
.ap-faint b,.ap-faint dd{color:var(--soft);font-weight:400!important}.ap-tile[title]{cursor:help}
.ap-note{border-left:3px solid #c99a2e;padding:3px 13px;margin:8px 0;color:var(--soft);font-size:13px;
overflow-wrap:anywhere}
.ap-bar{display:flex;height:10px;border-radius:5px;overflow:hidden;margin:6px 0 8px;background:var(--line)}
.ap-bar i{display:block;height:100%}
.ap-legend{display:flex;flex-wrap:wrap;gap:3px 18px;font-size:13px}
.ap-legend i{display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:6px}
.ap-legend span{color:var(--soft)}
.ap-scroll{overflow:auto;max-height:430px;border:1px solid var(--line);border-radius:8px;margin:8px 0}
.ap .ap-scroll table{border-collapse:separate;border-spacing:0;width:100%;table-layout:auto;font-size:13px;margin:0;
border:0}
.ap .ap-scroll th,.ap .ap-scroll td{padding:5px 12px;text-align:left;white-space:nowrap;border:0;
border-bottom:1px solid var(--line);vertical-align:top;background:none}
.ap .ap-scroll thead th{color:var(--soft);font-weight:500}
.ap .ap-scroll tr{background:none!important}
.ap .ap-scroll tbody tr:last-child td{border-bottom:0}.ap .ap-scroll tbody tr:hover td{background:var(--wash)}
.ap .ap-scroll .n{text-align:right}.ap .ap-scroll .w{white-space:normal;min-width:220px;overflow-wrap:anywhere}
.ap .ap-scroll tfoot td{font-weight:650;border-top:1px solid var(--line);border-bottom:0}
.ap details{margin:10px 0 0;border-top:1px solid var(--line);padding-top:9px}
.ap summary{cursor:pointer;font-weight:550;font-size:13px}
.ap pre{overflow:auto;max-height:300px;font-size:12px;background:var(--wash);color:inherit;
padding:10px 12px;border-radius:6px;margin:8px 0 0}
.ap code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:12px;
background:none;color:inherit;overflow-wrap:anywhere}
.ap-figures{columns:2 380px;column-gap:44px;font-size:13px;margin:0}
.ap-figures div{display:flex;justify-content:space-between;gap:16px;padding:5px 2px;
border-bottom:1px solid var(--line);
break-inside:avoid}
.ap-figures dt{color:var(--soft);margin:0;cursor:help}.ap-figures dd{margin:0;font-weight:550;white-space:nowrap}
.ap-eyebrow{color:var(--soft);font-size:12px;letter-spacing:.04em;margin-bottom:10px}
@media(max-width:560px){.ap-card{padding:14px}.ap-pnl{font-size:26px}.ap-tiles{grid-template-columns:1fr 1fr}}
"""

PAGE_CSS = """
:root{color-scheme:light dark;--page:#fff}
body{margin:0;background:var(--page);color:#1c2127}
main.ap{margin:0 auto;padding:36px 24px 64px;--gain:#128263;--loss:#c93a4b}
main.ap .ap-scroll thead th{position:sticky;top:0;z-index:1;background:var(--page)}
@media(max-width:560px){main.ap{padding:22px 16px 48px}}
@media(prefers-color-scheme:dark){:root{--page:#14171b}body{color:#e4e7ea}main.ap{--gain:#35b98f;--loss:#f0707c}}
@media print{.ap-scroll{max-height:none;overflow:visible}}
"""
