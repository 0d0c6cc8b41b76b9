// Runs the script of a page with as much of a document as it asks for, and prints what it shows.
const html = require("fs").readFileSync(process.argv[2], "utf8");
const script = html.split("<script>")[1].split("</script>")[0];
const element = () => ({
  children: [], style: {}, textContent: "", value: "", listeners: {},
  append(...more) { this.children.push(...more); },
  insertCell() { const cell = element(); this.children.push(cell); return cell; },
  replaceChildren(...all) { this.children = all; },
  addEventListener(event, handler) { this.listeners[event] = handler; },
  getContext: () => new Proxy({}, {
    get: (_, name) => name === "measureText" ? text => ({width: 6 * text.length})
        : name === "fillRect" ? (...box) => { boxes.push(box); } : () => {},
    set: () => true,
  }),
});
const boxes = [], byId = {};
const document = {getElementById: id => byId[id] ??= element(), createElement: element};
new Function("document", script)(document);

const text = e => e.textContent || e.children.map(text).join("");
const show = () => byId.rows.children.forEach(row => console.log(row.children.map(text).join(" | ")));
console.log(boxes.length + " cells");
const [x, y, width] = boxes[boxes.length - 2];
byId.picture.listeners.mousemove({offsetX: x + width / 2, offsetY: y + width / 2});
console.log(byId.cell.textContent);
show();
console.log("rows with `web-1 db`:");
byId.filter.value = "web-1 DB";
byId.filter.listeners.input();
show();
