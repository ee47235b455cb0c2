"""The style of the HTML document, for screen and paper. Its hash is what the document's policy allows. Pure."""

STYLE = """
:root{color-scheme:light dark;--edge:#8886;--dim:#767676;--bad:#b00020;--good:#1a7f37}
@media (prefers-color-scheme:dark){:root{--dim:#9a9a9a;--bad:#ff6b7d;--good:#4ac26b}}
body{font:15px/1.45 system-ui,sans-serif;max-width:70em;margin:0 auto;padding:1em}
h1{font-size:1.3em;overflow-wrap:anywhere}h2{font-size:1em;margin:.2em 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15em 1em}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
pre,code,td,th{font:13px/1.4 ui-monospace,monospace}
pre,td,code{white-space:pre-wrap;overflow-wrap:anywhere}
pre{margin:.3em 0;tab-size:8;max-height:40em;overflow:auto;unicode-bidi:isolate}
p{margin:.2em 0;overflow-wrap:anywhere}
section{border:1px solid var(--edge);padding:.4em .8em;margin:.6em 0;content-visibility:auto;
contain-intrinsic-size:auto 9em}
article,.event{border-left:3px solid var(--edge);padding-left:.7em;margin:.6em 0}
article.bad,.refused{border-color:var(--bad)}
.at,time,.gap,.outcome{color:var(--dim);font-size:13px}.gap{text-align:center}
.good>.result{color:var(--good)}.bad>.result{color:var(--bad);font-weight:600}
.c{color:var(--bad);border:1px solid;padding:0 .1em}
table{border-spacing:0}th{color:var(--dim);text-align:right;vertical-align:top;padding-right:.8em}
i{color:var(--dim)}nav a{margin-right:1em}
@media print{body{max-width:none;padding:0}section{content-visibility:visible;border:0;padding:0}
pre{max-height:none;overflow:visible}article,.event{break-inside:auto}nav{display:none}
a{color:inherit;text-decoration:none}}
"""
