"""Multiple-choice facts and short science: tables of one relation each, asked with options from the same column."""

from templates import Template, add, choice

# name -> (skill, split, question with {}, {subject: answer})
RELATIONS = {
    "capital": ("facts", "train", "Which city is the capital of {}?", {
        "Kenya": "Nairobi", "Peru": "Lima", "Norway": "Oslo", "Portugal": "Lisbon", "Vietnam": "Hanoi",
        "Cuba": "Havana", "Austria": "Vienna", "Iran": "Tehran", "Ghana": "Accra", "Chile": "Santiago",
        "Finland": "Helsinki"}),
    "currency": ("facts", "train", "What is the currency of {}?", {
        "Japan": "the yen", "India": "the rupee", "Poland": "the zloty", "South Africa": "the rand",
        "Sweden": "the krona", "Thailand": "the baht", "Israel": "the shekel", "Hungary": "the forint",
        "China": "the yuan"}),
    "continent": ("facts", "train", "On which continent does {} lie?", {
        "Bolivia": "South America", "Mongolia": "Asia", "Mali": "Africa", "Belgium": "Europe",
        "Canada": "North America", "Uruguay": "South America", "Nepal": "Asia", "Angola": "Africa",
        "Latvia": "Europe"}),
    "symbol": ("science", "train", "Which chemical element has the symbol {}?", {
        "Na": "sodium", "K": "potassium", "Fe": "iron", "Au": "gold", "Ag": "silver", "Pb": "lead",
        "Sn": "tin", "Hg": "mercury", "Cu": "copper", "W": "tungsten"}),
    "animal_class": ("science", "train", "To which class of animals does {} belong?", {
        "a dolphin": "mammals", "a penguin": "birds", "a gecko": "reptiles", "a newt": "amphibians",
        "a salmon": "fish", "a bat": "mammals", "a tortoise": "reptiles", "a beetle": "insects",
        "a toad": "amphibians"}),
    "unit": ("science", "train", "Which unit is used to measure {}?", {
        "electric current": "ampere", "force": "newton", "energy": "joule", "power": "watt",
        "frequency": "hertz", "electric resistance": "ohm", "pressure": "pascal", "temperature": "kelvin"}),
    "organ": ("science", "train", "Which organ {}?", {
        "pumps blood": "the heart", "filters urine from blood": "the kidney",
        "takes oxygen from air": "the lung", "makes bile": "the liver", "controls the body": "the brain",
        "makes insulin": "the pancreas", "digests food with acid": "the stomach"}),
    "instrument": ("science", "train", "Which instrument measures {}?", {
        "temperature": "a thermometer", "air pressure": "a barometer", "wind speed": "an anemometer",
        "earthquakes": "a seismometer", "angles": "a protractor", "mass": "a balance", "time": "a clock"}),
    "state_change": ("science", "train", "What is it called when {}?", {
        "a liquid becomes a solid": "freezing", "a solid becomes a liquid": "melting",
        "a gas becomes a liquid": "condensation", "a liquid becomes a gas": "evaporation",
        "a solid becomes a gas": "sublimation", "metal turns to oxide": "rusting",
        "a plant makes sugar from light": "photosynthesis"}),
    "river": ("facts", "train", "Through which city does the {} flow?", {
        "Thames": "London", "Seine": "Paris", "Tiber": "Rome", "Spree": "Berlin",
        "Neva": "Saint Petersburg", "Hudson": "New York", "Vltava": "Prague", "Nile": "Cairo"}),
    "opposite": ("language", "train", "Which word is the opposite of '{}'?", {
        "ancient": "modern", "brave": "timid", "generous": "stingy", "hollow": "solid",
        "scarce": "plentiful", "rough": "smooth", "victory": "defeat", "rigid": "flexible",
        "arrive": "depart"}),
    "profession": ("facts", "train", "Who {}?", {
        "repairs shoes": "a cobbler", "makes barrels": "a cooper", "studies rocks": "a geologist",
        "designs houses": "an architect", "bakes bread": "a baker", "studies stars": "an astronomer",
        "treats animals": "a vet", "shapes iron": "a blacksmith"}),
    "author": ("facts", "train", "Who wrote {}?", {
        "Hamlet": "William Shakespeare", "Don Quixote": "Miguel de Cervantes",
        "War and Peace": "Leo Tolstoy", "The Odyssey": "Homer", "Faust": "Johann Wolfgang von Goethe",
        "Emma": "Jane Austen", "Oliver Twist": "Charles Dickens", "The Divine Comedy": "Dante Alighieri"}),
    "known_for": ("facts", "train", "Who is known for {}?", {
        "the theory of relativity": "Albert Einstein", "the three laws of motion": "Isaac Newton",
        "the discovery of radium": "Marie Curie", "the idea of natural selection": "Charles Darwin",
        "the invention of dynamite": "Alfred Nobel", "the periodic table": "Dmitri Mendeleev",
        "a vaccine against rabies": "Louis Pasteur", "putting the Sun at the centre": "Nicolaus Copernicus"}),
    "spoken_language": ("facts", "train", "Which language do most people speak in {}?", {
        "Brazil": "Portuguese", "Austria": "German", "Mexico": "Spanish", "Egypt": "Arabic", "France": "French",
        "Greece": "Greek", "Turkey": "Turkish", "Hungary": "Hungarian", "Poland": "Polish", "Iran": "Persian"}),
    "past_tense": ("language", "train", "What is the past tense of '{}'?", {
        "go": "went", "bring": "brought", "sing": "sang", "write": "wrote", "fly": "flew", "eat": "ate",
        "swim": "swam", "teach": "taught", "drive": "drove", "choose": "chose", "catch": "caught"}),
    "made_of": ("science", "train", "What is {} mainly made of?", {
        "glass": "sand", "cheese": "milk", "steel": "iron", "chocolate": "cocoa", "a brick": "clay",
        "flour": "grain", "wine": "grapes", "a candle": "wax", "a balloon": "rubber"}),
    "sense": ("science", "train", "Which part of the body do we use to {}?", {
        "see colors": "the eye", "hear music": "the ear", "smell flowers": "the nose", "taste soup": "the tongue",
        "chew bread": "the teeth", "walk": "the legs"}),
    "shape": ("mathematics", "train", "Which shape has {}?", {
        "three sides": "a triangle", "five sides": "a pentagon", "six sides": "a hexagon",
        "seven sides": "a heptagon", "eight sides": "an octagon", "ten sides": "a decagon",
        "no corner at all": "a circle", "four equal sides and four right angles": "a square"}),
    "element": ("science", "train", "Which element {}?", {
        "makes up most of the air": "nitrogen", "is needed for burning": "oxygen",
        "is the lightest of all": "hydrogen", "glows red in sign tubes": "neon",
        "forms table salt with sodium": "chlorine", "makes bones hard": "calcium",
        "is found in every organic compound": "carbon", "is used for computer chips": "silicon"}),
    "bone": ("science", "train", "In which part of the body is the {}?", {
        "femur": "the thigh", "skull": "the head", "tibia": "the lower leg", "humerus": "the upper arm",
        "sternum": "the chest", "patella": "the knee", "scapula": "the shoulder", "pelvis": "the hip"}),
    "mountain": ("facts", "train", "In which country does {} stand?", {
        "Mount Fuji": "Japan", "Kilimanjaro": "Tanzania", "Mount Etna": "Italy", "Ben Nevis": "the United Kingdom",
        "Mount Olympus": "Greece", "Aconcagua": "Argentina", "Denali": "the United States",
        "Mount Cook": "New Zealand", "Mount Ararat": "Turkey"}),
    "dish": ("facts", "train", "From which country does {} come?", {
        "sushi": "Japan", "paella": "Spain", "goulash": "Hungary", "pizza": "Italy", "kimchi": "Korea",
        "guacamole": "Mexico", "fondue": "Switzerland", "borscht": "Ukraine", "moussaka": "Greece"}),
    "roman_numeral": ("mathematics", "train", "Which number is the Roman numeral {}?", {
        "IV": "4", "VI": "6", "IX": "9", "XII": "12", "XV": "15", "XIX": "19", "XL": "40", "L": "50", "LX": "60",
        "XC": "90", "C": "100", "D": "500", "M": "1000"}),
    "synonym": ("language", "validate", "Which word means about the same as '{}'?", {
        "rapid": "fast", "begin": "start", "odd": "strange", "error": "mistake", "wealthy": "rich",
        "silent": "quiet", "huge": "enormous"}),
    "home": ("facts", "validate", "Which animal lives in {}?", {
        "a hive": "the bee", "a sett": "the badger", "a lodge of sticks": "the beaver",
        "a web": "the spider", "an eyrie": "the eagle", "a kennel": "the dog"}),
    "energy_source": ("science", "validate", "What drives {}?", {
        "a sailing boat": "wind", "a water mill": "flowing water", "a solar panel": "sunlight",
        "a steam engine": "steam", "a pocket torch": "a battery", "a diesel lorry": "burning fuel"}),
    "sport": ("facts", "validate", "In which sport is {} used?", {
        "a puck": "ice hockey", "a shuttlecock": "badminton", "a tee": "golf",
        "a balance beam": "gymnastics", "a wicket": "cricket", "a surfboard": "surfing"}),
    "animal_sound": ("facts", "validate", "Which animal {}?", {
        "barks": "the dog", "neighs": "the horse", "hoots": "the owl", "croaks": "the frog",
        "hisses": "the snake", "bleats": "the sheep", "moos": "the cow"}),
    "planet": ("science", "test", "Which planet {}?", {
        "is nearest to the Sun": "Mercury", "is the largest": "Jupiter",
        "is farthest from the Sun": "Neptune", "is called the red planet": "Mars", "is our own": "Earth",
        "spins on its side": "Uranus"}),
    "young": ("facts", "test", "What is the young of {} called?", {
        "a sheep": "a lamb", "a cow": "a calf", "a horse": "a foal", "a goose": "a gosling",
        "a swan": "a cygnet", "a bear": "a cub"}),
    "group_name": ("language", "test", "What is a group of {} called?", {
        "wolves": "a pack", "bees": "a swarm", "lions": "a pride", "fish": "a shoal", "cattle": "a herd",
        "ships": "a fleet"}),
    "right_tool": ("facts", "test", "What does one use to {}?", {
        "drive in a nail": "a hammer", "cut a plank": "a saw", "turn a screw": "a screwdriver",
        "dig a hole": "a spade", "cut paper": "scissors", "paint a wall": "a brush",
        "tighten a nut": "a wrench"}),
    "plural": ("language", "test", "What is the plural of '{}'?", {
        "goose": "geese", "ox": "oxen", "criterion": "criteria", "leaf": "leaves", "mouse": "mice",
        "louse": "lice"}),
}  # fmt: skip


def _draw(question: str, table: dict[str, str]):
    def draw(rng):
        subject = rng.choice(sorted(table))
        return choice(rng, question.format(subject), table[subject], sorted(set(table.values())))

    return draw


for _name, (_skill, _split, _question, _table) in RELATIONS.items():
    add(Template(_name, _skill, _split, _draw(_question, _table), most=3 * len(_table)))
