// Candles of one instrument, with fills on them. The chart's library is beside the server, never fetched from elsewhere.

const COLOURS = ["--ink", "--soft", "--line", "--gain", "--loss", "--card"];

export async function render({ model, el }) {
  const box = titled(el, model);
  const head = box.querySelector("header") || box.appendChild(make("header"));
  const choice = head.appendChild(make("select"));
  choice.setAttribute("aria-label", "instrument");
  const place = box.appendChild(make("div", "chart"));
  const none = box.appendChild(make("p", "none", "Loading."));
  let lib;
  try {
    lib = await import(new URL("/vendor/lightweight-charts/lightweight-charts.js", document.baseURI).href);
  } catch {
    none.textContent = "The chart's library is not served here: open this page through alphapanda dashboard.";
    return;
  }
  const colours = () => {
    const style = getComputedStyle(el);
    return Object.fromEntries(COLOURS.map((name) => [name.slice(2), style.getPropertyValue(name).trim() || "#888"]));
  };
  // Tape time is shown as the exchange's clock shows it.
  const local = (s) => clockOf.format(s * 1000).slice(0, 5);
  const chart = lib.createChart(place, {
    autoSize: true,
    layout: { attributionLogo: true, fontSize: 11, background: { type: "solid", color: "transparent" } },
    timeScale: { timeVisible: true, secondsVisible: false, maxBarSpacing: 14, barSpacing: 9, rightOffset: 3, tickMarkFormatter: local },
    localization: { timeFormatter: local },
    crosshair: { mode: 0 },
  });
  const series = chart.addSeries(lib.CandlestickSeries, { priceFormat: { type: "price", precision: 2, minMove: 0.05 } });
  const marks = lib.createSeriesMarkers(series, []);
  let [bars, fills, tone] = [[], [], ""];
  const dress = () => {
    const c = colours();
    const now = JSON.stringify(c);
    if (now === tone) return;
    tone = now;
    chart.applyOptions({
      layout: { textColor: c.soft },
      grid: { vertLines: { color: c.line }, horzLines: { color: c.line } },
      timeScale: { borderColor: c.line },
      rightPriceScale: { borderColor: c.line },
    });
    series.applyOptions({ upColor: c.gain, downColor: c.loss, wickUpColor: c.gain, wickDownColor: c.loss, borderVisible: false });
    paint();
  };
  const paint = () => {
    const c = colours();
    const known = new Set(bars.map((b) => b[0]));
    marks.setMarkers(fills.filter((f) => known.has(f[0])).map(([time, side, text]) => (
      side === "BUY"
        ? { time, position: "belowBar", shape: "arrowUp", color: c.gain, text }
        : { time, position: "aboveBar", shape: "arrowDown", color: c.loss, text }
    )));
    place.dataset.bars = String(bars.length);
    place.dataset.marks = String(fills.length);
    place.classList.toggle("hidden", !bars.length);
    none.hidden = bars.length > 0;
  };
  const candle = ([time, open, high, low, close]) => ({ time, open, high, low, close });
  connect(model, (told) => {
    none.textContent = "No ticks of this instrument today.";
    if (told.symbols) {
      choice.replaceChildren(...told.symbols.map((name) => make("option", "", name)));
      choice.hidden = !told.symbols.length;
    }
    if (told.symbol !== undefined) choice.value = told.symbol;
    if (told.marks) fills = told.marks;
    if (told.bars) {
      bars = bars.slice(0, told.from).concat(told.bars);
      if (told.from === 0) {
        series.setData(bars.map(candle));
        chart.timeScale().scrollToRealTime();
      } else for (const bar of told.bars) series.update(candle(bar));
    }
    paint();
  });
  choice.onchange = () => model.send_msg({ do: "symbol", key: choice.value });
  dress();
  const watcher = new MutationObserver(dress);
  watcher.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  return () => { watcher.disconnect(); chart.remove(); };
}
