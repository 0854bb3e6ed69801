/** The report's style sheet: no external font or image; light and dark by the reader's preference; black on white in print. */
export const REPORT_STYLE = `
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#5b6470;--line:#e1e5ea;--tint:#eef4fa;
--accent:#0067a3;--good:#00795a;--caution:#b34700;--good-tint:#e9f6f1;--caution-tint:#fdf1e7;--note-tint:#f1f3f6;
--fm-before:#6b7280;--fm-after:#0072b2;--fm-masked:#d98a00;--fm-retrained:#009e73;--fm-forgotten:#d55e00;--fm-probe:#a8487f;--fm-neutral:#b6bcc6;--fm-surface:#fff}
@media screen and (prefers-color-scheme:dark){:root{--page:#0f1318;--card:#171c23;--ink:#e5e9ee;--soft:#9aa5b1;--line:#2a323c;--tint:#1b2a38;
--accent:#6cb8ea;--good:#4ecba5;--caution:#ff9c57;--good-tint:#13291f;--caution-tint:#33210f;--note-tint:#1f262f;
--fm-before:#a7b0bb;--fm-after:#4fb0ea;--fm-masked:#f0b040;--fm-retrained:#3fcf9f;--fm-forgotten:#ff8a3d;--fm-probe:#e59ac6;--fm-neutral:#56616e;--fm-surface:#171c23}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1000px;margin:0 auto;padding:40px 24px 64px}
header{margin-bottom:24px}
.brand{margin:0;color:var(--accent);font-weight:600;letter-spacing:.02em}
h1{margin:2px 0 4px;font-size:32px;line-height:1.2;letter-spacing:-.015em}
.subtitle{margin:0;color:var(--soft)}
h2{margin:0 0 16px;font-size:20px;line-height:1.3;letter-spacing:-.01em}
h3{margin:24px 0 8px;font-size:15px}
section{margin:0 0 20px;padding:24px 28px;background:var(--card);border:1px solid var(--line);border-radius:10px}
.lead{margin:0;font-size:17px;line-height:1.65;max-width:80ch}
.note{margin:12px 0 0;color:var(--soft);font-size:14px;max-width:90ch}
h2+.note{margin:-8px 0 16px}
.note.gap{margin-bottom:32px}
.tiles{display:grid;grid-template-columns:repeat(6,minmax(0,1fr));gap:12px;margin:0 0 20px}
.tile{grid-column:span 2;padding:16px 20px;background:var(--card);border:1px solid var(--line);border-radius:10px}
.tile:nth-child(n+4){grid-column:span 3}
.tile.caution{border-color:var(--caution);background:var(--caution-tint)}
.tile.caution .figure{color:var(--caution)}
.tile .what{color:var(--soft);font-size:13px}
.tile .figure{font-size:26px;line-height:1.3;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums;white-space:nowrap}
.tile .figure small{font-size:15px;font-weight:500;color:var(--soft);letter-spacing:0}
.tile .aside{color:var(--soft);font-size:13px;font-variant-numeric:tabular-nums}
.findings{display:grid;gap:8px;margin:20px 0 0;padding:0;list-style:none}
.findings li{max-width:none;padding:10px 14px;border-left:4px solid var(--soft);border-radius:4px;background:var(--note-tint)}
.findings .good{border-color:var(--good);background:var(--good-tint)}
.findings .caution{border-color:var(--caution);background:var(--caution-tint)}
.findings .good b{color:var(--good)}
.findings .caution b{color:var(--caution)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:7px 12px;text-align:right;white-space:nowrap;font-weight:400}
thead th{font-weight:600;font-size:14px;border-bottom:1px solid var(--line)}
tbody th,tfoot th{text-align:left}
.results .first>*{border-top:1px solid var(--line)}
.results tbody tr:first-child>*{border-top:0}
.results th[scope=rowgroup]{font-weight:600;vertical-align:top}
.results th[scope=row]{color:var(--soft)}
.results .written{background:var(--tint);font-weight:600}
.results .change{color:var(--soft);font-size:14px}
.list th,.list td{padding:4px 12px;font-size:14px}
.list thead th:first-child{text-align:left}
.list tbody tr>*{border-bottom:1px solid var(--line)}
.list tfoot>tr>*{font-weight:600}
.list .code,code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:13px}
.stages .bar{width:45%;min-width:120px}
.stages thead td{border-bottom:1px solid var(--line)}
.stages .bar span{display:block;height:10px;min-width:1px;border-radius:2px;background:var(--fm-after);print-color-adjust:exact;-webkit-print-color-adjust:exact}
.plot{margin:0 0 36px}
.plot:last-child{margin-bottom:0}
.plot svg{display:block;width:100%;height:auto}
.plot svg text{white-space:pre}
.plot figcaption{margin-top:10px;color:var(--soft);font-size:14px;max-width:90ch}
details{margin-top:16px}
summary{cursor:pointer;color:var(--accent);font-size:14px}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(132px,1fr));gap:20px 16px}
.sample{margin:0;font-size:13px;line-height:1.4;min-width:0}
.sample img,.no-picture{display:block;width:100%;height:auto;aspect-ratio:1;object-fit:contain;border-radius:6px;background:var(--note-tint);image-rendering:pixelated}
.no-picture{padding:12px;color:var(--soft)}
.sample span{display:block;overflow-wrap:anywhere}
.sample .label{margin-top:6px;font-weight:600}
.sample .lost{color:var(--caution)}
.sample .kept{color:var(--soft)}
.sample .index{color:var(--soft);font-size:12px}
.warnings{margin:0;padding-left:20px}
.warnings li{margin:4px 0;overflow-wrap:anywhere}
dl{margin:0}
.pairs{display:grid;grid-template-columns:repeat(auto-fit,minmax(400px,1fr));gap:0 32px;font-size:14px}
.pairs div{display:grid;grid-template-columns:185px minmax(0,1fr);gap:12px;padding:5px 0;border-bottom:1px solid var(--line)}
.pairs dt{color:var(--soft);overflow-wrap:anywhere}
dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.terms{display:grid;grid-template-columns:150px minmax(0,1fr);gap:8px 16px;font-size:15px}
.terms dt{font-weight:600}
footer{color:var(--soft);font-size:13px}
@media screen and (max-width:780px){.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}.tile,.tile:nth-child(n+4){grid-column:span 1}.tile:last-child{grid-column:1/-1}}
@media screen and (max-width:480px){.tiles{grid-template-columns:minmax(0,1fr)}}
@media screen and (max-width:720px){.plot svg{width:680px}}
@media(max-width:640px){main{padding:20px 12px 40px}section{padding:18px 16px}.pairs{grid-template-columns:1fr}.terms{grid-template-columns:1fr;gap:2px}.terms dd{margin-bottom:10px}}
@media print{:root{--page:#fff;--soft:#3d444d}body{font-size:11pt}main{max-width:none;padding:0}
section{border:0;padding:0;margin:0 0 22pt}.tile{border-color:#999}.plot,.tile,.sample,.findings li,tr{break-inside:avoid}h2,h3,h2+.note{break-after:avoid}
.scroll{overflow:visible}th,td{padding:4px 7px}.results,.results thead th,.results .change,.note,.plot figcaption{font-size:9pt}.results{break-inside:avoid}.lead{font-size:11pt}.findings li{font-size:10pt}
.tile{padding:8px 12px}.tile .figure{font-size:15pt}.tile .figure small{font-size:9pt}
.gallery{grid-template-columns:repeat(6,minmax(0,1fr))}.pairs{font-size:9pt}.terms{font-size:10pt}
.results .written,.findings li{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
`;
